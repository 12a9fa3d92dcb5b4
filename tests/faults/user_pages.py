"""Asks a gateway for the pages of users all along: what was shown once is shown on."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.faults.checker.lessons import Accepted

_PAUSE_SECONDS = 0.1
_TIMEOUT_SECONDS = 12.0
_PAGE_ENTRIES = 20
"""So many are looked for at most: no more than a page has by default."""


@dataclass
class UserPages:
    """Of the users whose lessons were accepted so far; `accepted` grows meanwhile."""

    port: int
    accepted: list[Accepted]
    n_answers: int = 0
    wrong: list[str] = field(default_factory=list)
    """Answers that are not 200, or show fewer lessons than before."""
    _shown: dict[str, int] = field(default_factory=dict)
    """Lessons by page."""

    @asynccontextmanager
    async def asked(self) -> AsyncIterator["UserPages"]:
        """Until the block ends, one page after the other."""
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", timeout=timeout) as http:
            asking = asyncio.create_task(self._ask_all_along(http))
            try:
                yield self
            finally:
                asking.cancel()
                with suppress(asyncio.CancelledError):
                    await asking

    async def _ask_all_along(self, http: aiohttp.ClientSession) -> None:
        while True:
            for user_id in dict.fromkeys(lesson.user_id for lesson in list(self.accepted)):
                await self._ask(http, f"/progress/{user_id}", "lessons")
                await self._ask(http, f"/users/{user_id}/activity", "activities")
                await asyncio.sleep(_PAUSE_SECONDS)
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _ask(self, http: aiohttp.ClientSession, path: str, member: str) -> None:
        try:
            async with http.get(path) as answer:
                body: Mapping[str, Any] = await answer.json()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            self.wrong.append(f"{path}: {error!r}")
            return
        self.n_answers += 1
        n_shown = len(body[member]) if status == 200 else -1
        if n_shown < self._shown.get(path, 0):
            self.wrong.append(f"{path}: {status}, {n_shown} entries after {self._shown.get(path, 0)}")
        self._shown[path] = max(n_shown, self._shown.get(path, 0))

    def missing(self) -> list[str]:
        """Users whose pages do not show a lesson for each that was accepted (of up to one page)."""
        n_of = Counter(lesson.user_id for lesson in self.accepted)
        pages = ((user_id, page) for user_id in n_of for page in (f"/progress/{user_id}", f"/users/{user_id}/activity"))
        return [page for user_id, page in pages if self._shown.get(page, 0) < min(n_of[user_id], _PAGE_ENTRIES)]
