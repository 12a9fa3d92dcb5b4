"""The gateway as a service: it asks others, by Kafka or by HTTP, and answers nothing itself."""

from collections.abc import Iterable

from aiohttp import ClientSession, ClientTimeout, TCPConnector

from emis_streams.services import registry
from emis_streams.services.requests import DeadLetter
from emis_streams.services.service import Service
from emis_streams.settings import Settings

_CONNECT_SECONDS, _ANSWER_SECONDS = 0.5, 2.0
"""Pages are answered from local copies, in milliseconds; the next instance is better than waiting."""
_CONNECTIONS = 256


class GatewayService(Service):
    name = "gateway"
    port = 8000

    def __init__(self, config: Settings, dead_letter: DeadLetter, needs: Iterable[str] = ()) -> None:
        """`needs`: services that it routes to; it is ready when each is registered."""
        super().__init__(config, dead_letter)
        self.needs = sorted(set(needs))
        self.pages: ClientSession | None = None
        """For pages of other services' workers."""
        self.not_ready.append(self._missing)

    async def initialise_clients(self) -> None:
        await super().initialise_clients()
        self.pages = ClientSession(
            timeout=ClientTimeout(total=_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
            connector=TCPConnector(limit=_CONNECTIONS),
            auto_decompress=False,
        )

    async def clean_up_resources(self) -> None:
        await super().clean_up_resources()
        if self.pages is not None:
            await self.pages.close()

    def _missing(self) -> str | None:
        missing = [name for name in self.needs if not registry.instances(self.registry, name)]
        return f"not registered: {', '.join(missing)}" if missing else None
