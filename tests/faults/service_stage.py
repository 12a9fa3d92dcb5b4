"""Services beside a stage's workers: processes of `emis-streams run` that rows kill, freeze and start again.

Nothing starts them again by itself; they are gone when the block ends.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from emis_streams.settings import Settings
from tests.faults.course import Course
from tests.faults.stage import Command, FaultWorker

SESSION_TIMEOUT_SECONDS = 4.0
"""A killed instance's requests go to another one after this."""
BREAKER_MS = 1_000
READY_SECONDS = 60.0


class FaultService(FaultWorker):
    """One process of a service."""

    def start(self, command: Command = (), environment: Mapping[str, str] | None = None) -> None:
        """Only from the main thread (see emis_streams.local)."""
        run = (sys.executable, "-P", "-m", "emis_streams", "run", self.settings.service)
        super().start(command or run, environment)

    async def ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        await super().ready(timeout_seconds)


class ServiceStage:
    """Adds services of the course's code to its stage. Use `service_stage`."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._folder = course.stage.folder / f"services-{course.folder.name}"
        self.services: list[FaultService] = []

    def database(self, name: str) -> str:
        """URL of an empty database of this course's own, on the stage's MariaDB."""
        stage = self._course.stage
        name = f"{name}_{stage.next_number()}"
        stage.mariadb.drop(name)
        return stage.mariadb.create(name)

    def add(self, service: str, name: str = "", **changes: Any) -> FaultService:
        """A process that is not started yet; `changes` are settings."""
        name = name or service
        settings = self._settings(service, name, changes)
        added = FaultService(name, settings, self._folder / name, self._course.workers[0].code)
        self.services.append(added)
        return added

    def _settings(self, service: str, name: str, changes: Mapping[str, Any]) -> Settings:
        stage = self._course.stage
        own = {
            "service": service,
            "session_timeout_seconds": SESSION_TIMEOUT_SECONDS,
            "circuit_breaker_timeout": BREAKER_MS,
            "circuit_breaker_threshold": 1_000,
            **changes,
        }
        return stage.worker_settings(name, stage.brokers, data_dir=str(self._folder / name / "data"), **own)

    async def close(self) -> None:
        for service in self.services:
            service.kill()


@asynccontextmanager
async def service_stage(course: Course) -> AsyncIterator[ServiceStage]:
    """Services that are added in the block are killed at its end."""
    stage = ServiceStage(course)
    try:
        yield stage
    finally:
        await stage.close()


async def start_all(services: Iterable[FaultService]) -> None:
    """Until each is ready."""
    services = list(services)
    for service in services:
        service.start()
    await asyncio.gather(*(service.ready() for service in services))
