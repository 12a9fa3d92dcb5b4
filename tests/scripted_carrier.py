"""A carrier that answers as a script says: tests/integration/test_requests.py has the same on real brokers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from emis_streams.services import messages
from emis_streams.services.messages import Request

Answer = Any | Exception | Callable[[], Awaitable[Any]]


async def never() -> None:
    await asyncio.Event().wait()


@dataclass
class Scripted:
    """Answers in the order of the script; the last one again and again."""

    script: list[Answer]
    requests: list[tuple[str, Request]] = field(default_factory=list)

    async def ask(self, service: str, request: Request) -> tuple[list[messages.Header], bytes]:
        return messages.reply(b"", await self._next(service, request))

    async def tell(self, service: str, request: Request) -> None:
        await self._next(service, request)

    async def _next(self, service: str, request: Request) -> Any:
        self.requests.append((service, request))
        answer = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        if isinstance(answer, Exception):
            raise answer
        return await answer() if callable(answer) else answer
