"""Applications that use the engine wrongly, as processes: each ends with a line that says what is wrong."""

import os
import sys
from pathlib import Path
from textwrap import dedent, indent

import pytest
from aiokafka.admin import NewTopic

from emis_streams.local import Child
from tests.integration.engine_rig import admin, producer
from tests.services import unique, until

ROOT = Path(__file__).parents[2]

APPLICATION = """
import asyncio, sys
from emis_streams.engine import App, Options

NAME, BROKERS, FOLDER = sys.argv.pop(), sys.argv.pop(), sys.argv.pop()
app = App(NAME, broker=f"slices://{{BROKERS}}", datadir=FOLDER,
          engine_options=Options(watchdog_timeout_seconds=3.0){settings})
kept = app.Table("kept", topics=[f"{{NAME}}-events"], merge=lambda row, stored: max(row, stored or b""))

@app.agent(app.slices(f"{{NAME}}-events"))
async def keep(slices):
{agent}

app.main()
"""


def application(folder: Path, broker: str, name: str, agent: str, settings: str = "") -> Child:
    file = folder / "application.py"
    file.write_text(APPLICATION.format(agent=indent(dedent(agent), "    "), settings=settings))
    command = [sys.executable, str(file), "worker", "--without-web", "-l", "info", str(folder / "data"), broker, name]
    return Child("application", command, folder, env={**os.environ, "PYTHONPATH": str(ROOT)})


async def ends(child: Child, code: int, said: str) -> None:
    child.start()
    try:
        await until(lambda: not child.running, 60)
        log = child.log_path.read_text()
    finally:
        child.stop()
    assert child.returncode == code, log[-4_000:]
    assert said in next(line for line in log.splitlines() if f"(exit code {code})" in line)


AGENTS = {
    "acknowledges nothing": ("async for batch in slices: pass", 75, "done_when"),
    "never iterates": ("await asyncio.sleep(3600)", 75, "done_when"),
    "waits for what never comes": (
        "async for batch in slices: batch.done_when(asyncio.get_running_loop().create_future())",
        75,
        "acknowledged",
    ),
    "raises": ("async for batch in slices: raise ValueError('no')", 70, "agent"),
    "returns": ("async for batch in slices: return", 70, "returned: it has to iterate over its slices for ever"),
    "acknowledges twice": (
        """
        async for batch in slices:
            batch.done_when()
            batch.done_when()
        """,
        70,
        "failed",
    ),
}


@pytest.mark.parametrize("what", AGENTS)
async def test_an_agent_that_would_stall_ends_the_process(broker: str, tmp_path: Path, what: str) -> None:
    agent, code, said = AGENTS[what]
    name = unique("misuse")
    async with admin(broker) as client:
        compacted = {"cleanup.policy": "compact"}
        changelog = NewTopic(f"{name}-kept-changelog", 2, 1, topic_configs=compacted)
        await client.create_topics([NewTopic(f"{name}-events", 2, 1), changelog])
    async with producer(broker) as client:
        await client.send_and_wait(f"{name}-events", b"value", b"key")
    await ends(application(tmp_path, broker, name, agent), code, said)


async def test_what_does_not_fit_together_ends_at_the_start_without_brokers(tmp_path: Path) -> None:
    child = application(
        tmp_path, "127.0.0.1:1", "misuse", "async for batch in slices: pass", ", table_standby_replicas=1"
    )
    await ends(child, 2, "it cannot start: table_standby_replicas=1 is not supported, only 0")


async def test_a_good_application_works_without_web_pages(broker: str, tmp_path: Path) -> None:
    """The others end for what is wrong with them."""
    name = unique("well")
    async with admin(broker) as client:
        changelog = NewTopic(f"{name}-kept-changelog", 2, 1, topic_configs={"cleanup.policy": "compact"})
        await client.create_topics([NewTopic(f"{name}-events", 2, 1), changelog])
    async with producer(broker) as client:
        await client.send_and_wait(f"{name}-events", b"value", b"key")
    child = application(
        tmp_path, broker, name, "async for batch in slices: batch.done_when(kept.write(batch, {b'k': b'v'}))"
    )
    child.start()
    try:
        await until(lambda: has_committed(broker, name), 60)
        assert child.running
    finally:
        child.stop()


async def has_committed(broker: str, name: str) -> bool:
    async with admin(broker) as client:
        return any(at.offset == 1 for at in (await client.list_consumer_group_offsets(name)).values())
