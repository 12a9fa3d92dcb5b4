"""The application's worker, with a fault of its own at a named point.

    python crash.py POINT ACTION FOLDER NTH

Run instead of `python -m emis_streams worker` (tests/faults/trap.py). From when FOLDER/go exists, the NTH call
of what is at POINT is where ACTION happens, once: FOLDER/bit.json is written first, with the monotonic time.
The shipped code knows nothing of it.
"""

import asyncio
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from emis_streams.engine import catch_up
from emis_streams.engine.catch_up import TableManager
from emis_streams.engine.consumer_thread import SliceConsumerThread
from emis_streams.engine.follower import Follower
from emis_streams.engine.table import Table, TableSink
from emis_streams.engine.writer import Writer
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.replica.writer import ReplicaSink

_SMALL_SLICE_RECORDS = 20
"""In recoveries that are to be cut at a share: a slice is not cut."""


@dataclass
class Trap:
    """Does its action once."""

    action: str
    """`kill`, `stop`, `spin:SECONDS` (the processor is busy) or `sleep:SECONDS` (a call that does not return)."""
    folder: Path
    nth: int
    said: dict[str, Any] = field(default_factory=dict)
    _calls: int = 0
    _is_armed: bool = False
    _is_done: bool = False

    def step_on(self, last_act: Callable[[], None] = lambda: None) -> None:
        """Acts if this is the call; `last_act` is what is done on the disk just before."""
        if self._is_done or not self._armed():
            return
        self._calls += 1
        if self._calls >= self.nth:
            self._is_done = True
            last_act()
            self._act()

    def _armed(self) -> bool:
        self._is_armed = self._is_armed or (self.folder / "go").exists()
        return self._is_armed

    def _act(self) -> None:
        fresh = self.folder / "bit.new"
        fresh.write_text(json.dumps({"at": time.monotonic(), "pid": os.getpid(), **self.said}))
        fresh.replace(self.folder / "bit.json")
        name, _, seconds = self.action.partition(":")
        match name:
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "spin":
                _spin(float(seconds))
            case "sleep":
                time.sleep(float(seconds))
            case _:
                raise ValueError(f"{self.action} is no action")


def _spin(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


# -- where ----------------------------------------------------------------------------------------


def _fitting(owner: Any, name: str, act: Callable[..., None]) -> Any:
    """The method; raises TypeError unless `act` takes what it takes: else that would show when it should bite."""
    method = getattr(owner, name)
    positional = [p for p in signature(method).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    signature(act).bind(*positional)
    signature(act).bind(*(p for p in positional if p.default is p.empty))
    return method


def before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """`act` gets the method's arguments, before it runs."""
    method = _fitting(owner, name, act)

    @wraps(method)
    def trapped(*args: Any, **kwargs: Any) -> Any:
        act(*args, **kwargs)
        return method(*args, **kwargs)

    setattr(owner, name, trapped)


def after(owner: Any, name: str, act: Callable[..., None]) -> None:
    """`act` gets the method's arguments, when it has returned."""
    method = _fitting(owner, name, act)

    @wraps(method)
    async def trapped_async(*args: Any, **kwargs: Any) -> Any:
        result = await method(*args, **kwargs)
        act(*args, **kwargs)
        return result

    @wraps(method)
    def trapped(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        act(*args, **kwargs)
        return result

    setattr(owner, name, trapped_async if asyncio.iscoroutinefunction(method) else trapped)


def before_table(trap: Trap) -> None:
    """Records are decoded and folded, nothing of them is kept."""
    before(Table, "write", lambda *_: trap.step_on())


def before_changelog(trap: Trap) -> None:
    """The table is ahead of its changelog, on the disk too."""

    def act(_writer: Writer, tp: Any, _rows: Any) -> None:
        from emis_streams.app import app

        tables: Any = app.tables
        trap.step_on(lambda: tables.table_of(tp.topic).store.partition(tp.partition)._db.flush())

    before(Writer, "send_rows", act)


def after_acknowledgement(trap: Trap) -> None:
    """The brokers have the rows, the slice is not done."""
    after(TableManager, "_acknowledged", lambda *_: trap.step_on())


def before_commit(trap: Trap) -> None:
    """Slices are done, and the group does not know it."""
    before(SliceConsumerThread, "commit", lambda *_: trap.step_on())


def after_commit(trap: Trap) -> None:
    """The group knows it, the worker does not."""
    after(SliceConsumerThread, "commit", lambda *_: trap.step_on())


def after_dead_letter(trap: Trap) -> None:
    """The brokers have the dead letter, its slice is not done."""
    after(Writer, "_send_record", lambda *_: trap.step_on())


def before_mysql_commit(trap: Trap) -> None:
    """All statements of a transaction are executed."""

    def act(_sink: ReplicaSink, _connection: Any, share: Any) -> None:
        if share.slices:
            trap.step_on()

    after(ReplicaSink, "_keep_positions", act)


def after_mysql_commit(trap: Trap) -> None:
    """The database has the rows, the follower does not know it."""

    def act(_sink: ReplicaSink, share: Any) -> None:
        if share.slices:
            trap.step_on()

    after(ReplicaSink, "_apply_share", act)


def in_read_model(trap: Trap) -> None:
    """While the read model writes its files."""

    def flush(model: ReadModel) -> None:
        threading.Thread(target=model._db.flush).start()
        time.sleep(0.001)

    after(ReadModel, "write", lambda model, *_: trap.step_on(lambda: flush(model)))


def read_model_flushed(trap: Trap) -> None:
    """All that the read model has written is in its files."""
    after(ReadModel, "write", lambda model, *_: trap.step_on(model._db.flush))


def before_send(trap: Trap) -> None:
    """The worker has looked whether its session lives, and has not sent these rows of classes yet."""

    def act(_producer: Any, _batch: Any, topic: str, **_: Any) -> None:
        if "-classes-" in topic:
            trap.step_on()

    before(AIOKafkaProducer, "send_batch", act)


def in_tables(trap: Trap, share: float) -> None:
    """So much of what the tables lack is read from their changelogs, and on the disk."""
    catch_up._CATCH_UP_RECORDS = _SMALL_SLICE_RECORDS

    def flush(sink: TableSink) -> None:
        for table in sink._tables.values():
            for number in table.store.open_partitions:
                table.store.partition(number)._db.flush()

    _in_recovery(trap, share, "-tables", TableSink, flush)


def in_rebuild(trap: Trap, share: float) -> None:
    """So much of what the read model lacks is read from the changelogs, and on the disk."""
    _in_recovery(trap, share, "-read-model", ReadModelSink, lambda sink: sink._model._db.flush())


def _in_recovery(trap: Trap, share: float, name: str, sink_type: Any, flush: Callable[[Any], None]) -> None:
    begins = left = applied = 0

    def positioned(follower: Follower, *_: Any) -> None:
        nonlocal begins, left, applied
        if follower.name.endswith(name):
            follower.slice_records = _SMALL_SLICE_RECORDS
            begins = sum(follower.next_offsets.values())
            left = sum(follower._targets.values()) - begins
            applied = 0

    def took(sink: Any, part: Any) -> None:
        nonlocal applied
        applied += part.n_records
        if left and applied >= share * left:
            trap.said.update(begins=begins, left=left, applied=applied)
            trap.step_on(lambda: flush(sink))

    after(Follower, "_position", positioned)
    after(sink_type, "_apply", took)


POINTS: dict[str, Callable[[Trap], None]] = {
    "before-table": before_table,
    "before-changelog": before_changelog,
    "after-acknowledgement": after_acknowledgement,
    "before-commit": before_commit,
    "after-commit": after_commit,
    "after-dead-letter": after_dead_letter,
    "before-mysql-commit": before_mysql_commit,
    "after-mysql-commit": after_mysql_commit,
    "in-read-model": in_read_model,
    "read-model-flushed": read_model_flushed,
    "before-send": before_send,
    "in-tables-10": lambda trap: in_tables(trap, 0.1),
    "in-tables-50": lambda trap: in_tables(trap, 0.5),
    "in-tables-90": lambda trap: in_tables(trap, 0.9),
    "in-rebuild-10": lambda trap: in_rebuild(trap, 0.1),
    "in-rebuild-90": lambda trap: in_rebuild(trap, 0.9),
}


if __name__ == "__main__":
    from emis_streams.cli import main

    POINTS[sys.argv[1]](Trap(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
    sys.argv = ["emis-streams", "worker"]
    main()
