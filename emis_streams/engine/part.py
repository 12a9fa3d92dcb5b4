"""A coroutine that runs as long as the worker does; if it fails, the worker ends."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from mode import Service

from emis_streams.engine import fatal

_CANCEL_AGAIN_SECONDS = 5.0
"""Longer than a consumer takes to leave its group."""


class Part(Service):
    """Runs `run()` beside the web views; `close()` is called when the worker stops."""

    mundane_level = "debug"

    abstract = False

    def __init__(
        self,
        app: Any,
        name: str,
        run: Callable[[], Awaitable[None]],
        close: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__()
        self._app = app
        self._name = name
        self._run = run
        self._close = close
        self._task: asyncio.Task[None] | None = None

    @property
    def label(self) -> str:
        return self._name

    async def on_start(self) -> None:
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(self._ended)

    async def on_stop(self) -> None:
        """A cancellation can get lost on its way (aiokafka's fetcher and coordinator suppress some): it is repeated."""
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=_CANCEL_AGAIN_SECONDS)
        if self._close is not None:
            await self._close()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if task.cancelled() or self.should_stop:
            return
        fatal.end_process(self._app, f"{self._name} ended", task.exception())


def together(*runs: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """One run of several: it ends when the first of them ends, with what that one raises."""

    async def run() -> None:
        tasks = [asyncio.ensure_future(each()) for each in runs]
        try:
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    return run
