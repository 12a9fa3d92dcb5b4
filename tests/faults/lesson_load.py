"""Users who make lessons through a gateway, each one after the other, and ask again until they get a 201."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp

from tests.faults.checker.lessons import Accepted

_TIMEOUT_SECONDS = 12.0
_AGAIN_SECONDS = 0.1
_LAST_ANSWERS_SECONDS = 60.0


@dataclass
class LessonLoad:
    """`accepted` is in the order of the answers."""

    port: int
    n_users: int = 24
    accepted: list[Accepted] = field(default_factory=list)
    n_refused: int = 0
    """Answers that were not 201, and requests that got none."""
    _ends: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["LessonLoad"]:
        """Until the block ends; then each user still waits for the answer to the lesson that is under way.

        Raises TimeoutError if one never gets it.
        """
        timeout = aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS)
        async with (
            asyncio.timeout(None) as limit,
            aiohttp.ClientSession(timeout=timeout) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(self.n_users):
                group.create_task(self._user(http, str(uuid.uuid4())))
            try:
                yield self
            finally:
                self._ends.set()
                limit.reschedule(asyncio.get_running_loop().time() + _LAST_ANSWERS_SECONDS)

    async def _user(self, http: aiohttp.ClientSession, user_id: str) -> None:
        while not self._ends.is_set():
            key = str(uuid.uuid4())
            while (lesson_id := await self._create(http, user_id, key)) is None:  # With the same body each time.
                self.n_refused += 1
                await asyncio.sleep(_AGAIN_SECONDS)
            self.accepted.append(Accepted(user_id, lesson_id))

    async def _create(self, http: aiohttp.ClientSession, user_id: str, key: str) -> str | None:
        body = {"title": f"Bài {key[:8]}", "userId": user_id}
        url = f"http://127.0.0.1:{self.port}/lessons"
        try:
            async with http.post(url, json=body, headers={"Idempotency-Key": key}) as answer:
                return (await answer.json())["lessonId"] if answer.status == 201 else None
        except (aiohttp.ClientError, TimeoutError):
            return None
