"""Services as processes on a real broker, and those who ask them over HTTP."""

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from emis_streams import admin
from emis_streams.settings import Settings
from tests.integration.worker_rig import Worker
from tests.services import settings_for, until

BREAKER_MILLISECONDS = 2_000
_TIMEOUT_SECONDS = 20.0

Answer = tuple[int, Any]


class Process(Worker):
    """One process of `emis-streams run`, or of something that stands in for it."""

    @asynccontextmanager
    async def running(self, *, ready: bool = True) -> AsyncIterator["Process"]:
        """Until the block ends; told to stop then, and waited for."""
        self.process.start()
        try:
            if ready:
                await self.ready()
            yield self
        finally:
            await self.stop()

    async def stop(self) -> None:
        """SIGTERM; it has to end by itself, with exit code 0, unless it was killed."""
        if not self.process.running:
            return
        self.process.send_signal(signal.SIGTERM)
        in_time = await asyncio.to_thread(self.process.wait, 40.0)
        self.process.kill()
        assert in_time, f"{self.name} did not stop:\n{self.process.log_tail()}"
        assert self.process.returncode == 0, f"{self.name}: {self.process.returncode}\n{self.process.log_tail()}"

    async def ended(self) -> None:
        """By itself."""
        assert await asyncio.to_thread(self.process.wait, 40.0), f"{self.name} goes on"

    async def ask(self, path: str) -> Answer:
        return await asyncio.to_thread(self.get, path)

    async def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Answer:
        return await asyncio.to_thread(self._post, path, body, headers or {})

    def _post(self, path: str, body: Any, headers: dict[str, str]) -> Answer:
        url = f"http://{self.settings.host}:{self.settings.port}{path}"
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json", **headers}, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refusal:
            return refusal.code, json.load(refusal)
        except (OSError, ValueError):
            return 0, None


@dataclass
class Services:
    """The gateway and what is behind it; which of them run, the test says."""

    broker: str
    folder: Path
    traces_to: str = ""
    """Endpoint of an OTLP collector."""

    def settings(self, service: str, **changes: Any) -> Settings:
        own = {"service": service, "circuit_breaker_timeout": BREAKER_MILLISECONDS, **changes}
        return settings_for(self.broker, self.folder / service / "data", **own)

    def process(self, service: str, command: Sequence[str] = (), **changes: Any) -> Process:
        command = command or ("-m", "emis_streams", "run", service)
        return Process(service, self.settings(service, **changes), command, self._tracing())

    def _tracing(self) -> dict[str, str]:
        """The standard variables; spans are sent soon."""
        if not self.traces_to:
            return {}
        return {
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.traces_to,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }

    async def make_topics(self) -> None:
        await admin.ensure_topics(self.settings("gateway"))


@dataclass
class User:
    """Someone who makes lessons through the gateway."""

    gateway: Process
    id_: UUID = field(default_factory=uuid4)

    async def create(self, key: str | None = None, title: str = "Phân số", **headers: str) -> Answer:
        if key is not None:
            headers["Idempotency-Key"] = key
        return await self.gateway.post("/lessons", {"title": title, "userId": str(self.id_)}, headers)

    async def created(self, n: int) -> set[str]:
        """Ids of so many new lessons."""
        answers = await asyncio.gather(*(self.create() for _ in range(n)))
        assert [status for status, _ in answers] == [201] * n, answers
        return {lesson["lessonId"] for _, lesson in answers}

    async def lessons_in_progress(self) -> list[str]:
        status, answer = await self.gateway.ask(f"/progress/{self.id_}")
        return [lesson["lessonId"] for lesson in answer["lessons"]] if status == 200 else []

    async def lessons_in_activity(self) -> list[str]:
        status, answer = await self.gateway.ask(f"/users/{self.id_}/activity")
        return [activity["lessonId"] for activity in answer["activities"]] if status == 200 else []

    async def sees(self, lesson_ids: set[str], timeout_seconds: float = 30.0) -> None:
        """Waits until progress and activity show these lessons, each once, and no others."""
        for asked in (self.lessons_in_progress, self.lessons_in_activity):

            async def is_shown(asked: Any = asked) -> bool:
                return sorted(await asked()) == sorted(lesson_ids)

            await until(is_shown, timeout_seconds)

    async def breaker(self, pattern: str = "create-lesson") -> str:
        """State of the gateway's breaker."""
        _, answer = await self.gateway.ask("/circuit-breakers")
        found: str = answer["lessons"]["patterns"][pattern]["status"]
        return found
