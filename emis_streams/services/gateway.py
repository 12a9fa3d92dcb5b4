"""The gateway as a service: it asks others, by Kafka or by HTTP, and answers nothing itself."""

from collections.abc import Iterable

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from emis_streams.services import registry
from emis_streams.services.admission import Admission
from emis_streams.services.concurrency_limit import Bounds
from emis_streams.services.requests import DeadLetter
from emis_streams.services.service import Service
from emis_streams.settings import Settings

_LEAST_CALLS, _LEAST_PAGES = 20, 8
"""Of one pattern under way at once, however slow they are: half of it is one user's, who may ask a few at once."""
_FIRST_PAGES = 16
"""Of one pattern under way at once, before it is known how long they take."""
_CONNECT_SECONDS, _ANSWER_SECONDS = 0.5, 2.0
"""Pages are answered from local copies, in milliseconds; the next instance is better than waiting."""


def page_session() -> ClientSession:
    """What pages of workers are asked with; they are read as they come, never decompressed."""
    return ClientSession(
        timeout=ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        connector=TCPConnector(limit=0),  # Admission bounds calls: none waits here, while its time runs.
        auto_decompress=False,
    )


class GatewayService(Service):
    name = "gateway"
    port = 8000

    def __init__(self, config: Settings, dead_letter: DeadLetter, needs: Iterable[str] = ()) -> None:
        """`needs`: services that it routes to; it is ready when each is registered."""
        super().__init__(config, dead_letter)
        self.needs = sorted(set(needs))
        self.pages: ClientSession | None = None
        """For pages of other services' workers."""
        self.admissions: dict[tuple[str, str], Admission] = {}
        """By service and pattern, of all routes."""
        self.not_ready.append(self._missing)

    async def initialise_clients(self) -> None:
        await super().initialise_clients()
        self.pages = page_session()

    async def clean_up_resources(self) -> None:
        await super().clean_up_resources()
        if self.pages is not None:
            await self.pages.close()

    def admission(self, service: str, pattern: str, *, is_page: bool) -> Admission:
        """Of the calls of one pattern, made when it is first asked for."""
        key = service, pattern
        if key not in self.admissions:
            self.admissions[key] = Admission(f"{service} {pattern}", self._bounds(is_page=is_page))
        return self.admissions[key]

    def _bounds(self, *, is_page: bool) -> Bounds:
        """A worker does not queue pages as a service does with requests: their limit begins low."""
        most = self.config.gateway_max_calls
        least = min(_LEAST_PAGES if is_page else _LEAST_CALLS, most)
        seconds = self.config.gateway_page_goal_seconds if is_page else self.config.gateway_call_goal_seconds
        first = min(_FIRST_PAGES, most) if is_page else most
        return Bounds(minimum=least, maximum=most, initial=first, goal_seconds=seconds)

    def _missing(self) -> str | None:
        missing = [name for name in self.needs if not registry.instances(self.registry, name)]
        return f"not registered: {', '.join(missing)}" if missing else None
