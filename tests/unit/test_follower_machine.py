"""Each of the real sinks keeps the fold of what it followed, whatever happens (tests/follower_machine.py)."""

import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC
from types import SimpleNamespace
from typing import Any

from aiokafka import TopicPartition
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule
from sqlalchemy import create_engine as connect
from sqlalchemy import delete, select

from emis_streams import rows, topics
from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.follower import Position, Sink
from emis_streams.engine.store import PartitionStore
from emis_streams.engine.table import TableSink
from emis_streams.read_model.model import CLASS, HOMEROOM, TEACHER, ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.replica.schema import class_infos, teachers
from emis_streams.replica.writer import ReplicaSink
from tests.follower_machine import TPS, Delivery, FollowerMachine, Kept

NOWHERE = 1 << 62
"""Offset of what stands in a log that is no more."""
UNDISTURBED = {"disable_auto_compactions": "true"}
"""No file goes while a database's folder is copied."""
EXAMPLES = int(os.environ.get("FAULTS_EXAMPLES", "0"))
"""For a long run, 10,000 say; 0: as many as a run of all tests has time for."""


class ReadModelMachine(FollowerMachine):
    """The local copy: one RocksDB for all partitions."""

    def open(self) -> None:
        self.model = ReadModel(self.data)
        self.model._db.set_options(UNDISTURBED)

    def close(self) -> None:
        self.model.close()

    def flush(self) -> None:
        self.model._db.flush()

    def sink(self) -> Sink:
        return ReadModelSink(self.model)

    def items(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        return ((key[1:], value) for key, value in self.model._db.items() if key[:1] == prefix)

    def kept(self) -> Kept:
        by_topic = {topics.CLASSES.changelog: CLASS, topics.TEACHERS.changelog: TEACHER}
        return {(topic, key): value[8:] for topic, prefix in by_topic.items() for key, value in self.items(prefix)}

    @invariant()
    def the_homeroom_index_is_that_of_the_rows(self) -> None:
        bodies = {key: rows.body_of(value[8:], rows.ClassRow) for key, value in self.items(CLASS)}
        homerooms = {key: body.homeroom_teacher_id for key, body in bodies.items() if body is not None}
        expected = {f"{teacher}|{key.decode()}".encode() for key, teacher in homerooms.items() if teacher is not None}
        assert {key for key, _ in self.items(HOMEROOM)} == expected


class TableMachine(FollowerMachine):
    """Partitions of a table that are taken over: a RocksDB each, and an eye on what has gone back in the log."""

    tps = TPS[:2]
    merge = staticmethod(rows.merged)

    def open(self) -> None:
        self.stores = {tp: PartitionStore(self.data / str(tp.partition)) for tp in self.tps}
        for store in self.stores.values():
            store._db.set_options(UNDISTURBED)

    def close(self) -> None:
        for store in self.stores.values():
            store.close()

    def flush(self) -> None:
        for store in self.stores.values():
            store._db.flush()

    def sink(self) -> Sink:
        store = SimpleNamespace(partition=lambda n: self.stores[TPS[n]])
        table: Any = SimpleNamespace(
            changelog_name=topics.CLASSES.changelog, store=store, merge=self.merge, check=ROW_CHECK
        )
        self.table_sink = TableSink([table], self.send_all)
        return self.table_sink

    async def send_all(self, tp: TopicPartition, sent: Mapping[bytes, bytes]) -> None:
        """What a log no longer has is written to it: what was delivered before has no place in it any more."""
        self.delivered = [one._replace(offset=NOWHERE) if one.tp == tp else one for one in self.delivered]
        for key, row in sent.items():
            self.delivered.append(Delivery(tp, NOWHERE, key, row))
            self.logs[tp].append(key, row)

    def place(self, tp: TopicPartition) -> TopicPartition | str:
        return tp

    def kept(self) -> Kept:
        return {(tp, key): row for tp, store in self.stores.items() for key, row in store.items()}

    @rule()
    def take_over(self) -> None:
        """Rows that have gone back are sent again: the log ends with the rows of the table (engine/catch_up.py)."""
        self.follow()
        for tp, gone_back in self.table_sink.rows_to_send_again().items():
            base = self.logs[tp].end
            for key, row in gone_back.items():
                self.delivered.append(Delivery(tp, self.logs[tp].end, key, row))
                self.logs[tp].append(key, row)
            self.stores[tp].acknowledged(base, len(gone_back))
        for tp, next_offset in self.follower.next_offsets.items():
            self.stores[tp].advance(Position(next_offset, self.follower.topic_id(tp)))
            self.stores[tp].write({})
        kept = self.kept()
        last = {(tp, r.key): r.value for tp, log in self.logs.items() for r in log.records}
        assert {place: value for place, value in last.items() if place in kept}.items() <= kept.items()
        self.begin()
        assert all(self.follower.next_offsets[tp] == log.end for tp, log in self.logs.items())

    @invariant()
    def what_has_gone_back_is_known(self) -> None:
        """Else nobody sends it again, and whoever reads the log later keeps the older row."""
        kept = self.kept()
        last = {(delivery.tp, delivery.key): delivery for delivery in self.delivered}
        gone_back = {place for place, one in last.items() if place in kept and one.value != kept[place]}
        known = {(tp, key) for tp, keys in self.table_sink.regressed.items() for key in keys}
        assert known <= gone_back
        for tp, key in gone_back - known:
            at = self.stores[tp].position
            assert at is None or last[tp, key].offset >= at.next_offset, "it will not be read again"


class ReplicaMachine(FollowerMachine):
    """SQLite: a crash here is a database restored from a copy."""

    def open(self) -> None:
        self.data.mkdir(exist_ok=True)
        self.url = f"sqlite:///{self.data / 'replica.db'}"
        self.engine = connect(self.url)

    def close(self) -> None:
        self.run(self.replica_sink.close())
        self.engine.dispose()

    def sink(self) -> Sink:
        async def refuse(tp: TopicPartition, key: bytes, row: bytes, reason: str) -> None:
            raise AssertionError(reason)

        self.replica_sink = ReplicaSink.open(self.url, refuse)
        return self.replica_sink

    def save(self) -> None:
        if hasattr(self, "replica_sink"):
            super().save()

    def expected(self) -> Kept:
        return {place: row[: rows.BODY_AT] for place, row in super().expected().items()}

    def kept(self) -> Kept:
        found: Kept = {}
        for topic, table, key in (
            (topics.CLASSES.changelog, class_infos, class_infos.c.ClassId),
            (topics.TEACHERS.changelog, teachers, teachers.c.TeacherId),
        ):
            with self.engine.connect() as connection:
                for row_key, version, created in connection.execute(select(key, table.c.Version, table.c.CreatedAt)):
                    created_us = round(created.replace(tzinfo=UTC).timestamp() * 1_000_000)
                    found[topic, row_key.encode()] = bytes.fromhex(version) + created_us.to_bytes(8, "big")
        return found

    @rule()
    def empty_the_classes(self) -> None:
        """As an operator does who wants them filled in again."""
        with self.engine.begin() as connection:
            connection.execute(delete(class_infos))
        self.delivered = [delivery for delivery in self.delivered if delivery.tp.topic != topics.CLASSES.changelog]
        # The follower looks every few seconds (`_look_at_sink`). Here it must before the invariants ask the sink for
        # its positions: that makes the sink forget them, which otherwise nobody but the follower does.
        self.run(self.follower._keep([]))


def _settings(n_examples: int, n_steps: int) -> settings:
    logging.getLogger("emis_streams.engine.follower").setLevel(logging.ERROR)
    return settings(
        max_examples=EXAMPLES or n_examples,
        stateful_step_count=n_steps,
        derandomize=not EXAMPLES,
        suppress_health_check=[HealthCheck.too_slow],
    )


TestReadModelMachine = ReadModelMachine.TestCase
TestReadModelMachine.settings = _settings(30, 30)
TestTableMachine = TableMachine.TestCase
TestTableMachine.settings = _settings(30, 30)
TestReplicaMachine = ReplicaMachine.TestCase
TestReplicaMachine.settings = _settings(6, 30)
