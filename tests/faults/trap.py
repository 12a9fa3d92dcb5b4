"""A worker that is started with a fault of its own (tests/faults/crash.py), as a row sees it."""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.stage import FaultWorker, until

_LAUNCHER = Path(__file__).with_name("crash.py")
_POLL_SECONDS = 0.02


@dataclass
class Trap:
    """`start`, wait until the worker is ready, `spring`, wait until it has `sprung`."""

    worker: FaultWorker
    point: str
    action: str = "kill"
    nth: int = 3
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        self.folder = self.worker.folder / f"trap-{self.point}-{time.monotonic_ns()}"
        self.folder.mkdir(parents=True)

    def start(self, environment: Mapping[str, str] | None = None) -> None:
        arguments = [self.point, self.action, str(self.folder), str(self.nth)]
        self.worker.start([sys.executable, "-P", str(_LAUNCHER), *arguments], environment)

    def spring(self) -> None:
        """From now on the point is deadly."""
        if self.action == "kill":
            self.worker.wanted = False
        (self.folder / "go").touch()

    async def sprung(self, timeout_seconds: float = 30.0) -> dict[str, Any]:
        """What the launcher said, once it has bitten; from then on nobody expects answers of the worker.

        Raises NotInTime. One that is killed is not started again by itself.
        """
        said = self.folder / "bit.json"
        await until(said.exists, timeout_seconds, f"{self.worker.name} comes to {self.point}", _POLL_SECONDS)
        told: dict[str, Any] = json.loads(said.read_text())
        self.worker.begin_outage(since=told["at"])
        if self.action == "kill":
            await asyncio.to_thread(self.worker.process.wait, 10.0)
            told["returncode"] = self.worker.process.returncode
        return told
