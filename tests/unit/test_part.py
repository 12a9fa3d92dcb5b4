"""Parts: what runs beside the pages, and how it is ended."""

import asyncio
from typing import Any

import pytest

from emis_streams.engine import part
from emis_streams.engine.part import Part


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part, "_CANCEL_AGAIN_SECONDS", 0.05)


async def test_a_part_that_loses_a_cancellation_on_its_way_ends_all_the_same() -> None:
    said: list[str] = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            said.append("a cancellation was lost")
        await asyncio.Event().wait()

    async def close() -> None:
        said.append("closed")

    async with asyncio.timeout(5):
        await _started_and_stopped(Part(None, "deaf", run, close))

    assert said == ["a cancellation was lost", "closed"]


async def test_a_part_is_closed_when_it_has_ended() -> None:
    said: list[str] = []

    async def run() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            said.append("ended")

    async def close() -> None:
        said.append("closed")

    await _started_and_stopped(Part(None, "quick", run, close))

    assert said == ["ended", "closed"]


async def _started_and_stopped(service: Any) -> None:
    await service.start()
    await asyncio.sleep(0)
    await service.stop()
