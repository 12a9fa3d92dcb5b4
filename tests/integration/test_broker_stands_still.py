"""A broker that stands still, its connections open: no fault of the worker, which goes on with it."""

import signal
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import KafkaError

from emis_streams.engine import fatal
from emis_streams.local import KafkaCluster
from tests.integration.engine_rig import Rig, row
from tests.services import until

pytestmark = pytest.mark.slow

_SOONER_THAN_AIOKAFKA_GIVES_UP_SECONDS = 20.0


async def test_a_worker_is_not_stuck_while_its_broker_stands_still_and_goes_on_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[str] = []

    def end_process(_app: Any, reason: str, *_args: Any, **_kwargs: Any) -> None:
        ends.append(reason)

    monkeypatch.setattr(fatal, "end_process", end_process)
    with KafkaCluster(tmp_path / "kafka") as kafka:
        rig = Rig(kafka.bootstrap, tmp_path / "worker")
        await rig.make_topics()
        broker = kafka.nodes[0].process
        async with rig.running():
            await rig.produce({"key": row(1)})
            await until(rig.all_committed)
            broker.send_signal(signal.SIGSTOP)
            try:
                consumer = rig.app.slice_consumer
                consumer.note_ends(dict.fromkeys(consumer.assignment(), 1_000))
                assert consumer.unfetched_since() is not None
                await until(lambda: consumer.unfetched_since() is None, _SOONER_THAN_AIOKAFKA_GIVES_UP_SECONDS)
            finally:
                broker.send_signal(signal.SIGCONT)
            await rig.produce({"key": row(2)})
            await until(lambda: _has_all_committed(rig), timeout_seconds=60)
            assert rig.kept_in_table() == {"key": row(2)}
    assert ends == []


async def _has_all_committed(rig: Rig) -> bool:
    """A broker that has just come back may not say yet who coordinates the group."""
    try:
        return bool(await rig.all_committed())
    except KafkaError:
        return False
