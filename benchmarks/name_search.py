"""What finding by name costs: `python -m benchmarks search`. No brokers: a local copy of a country, the real pages.

The country is that of `emis-streams generate`: for each class 1.3 teachers and 6.5 assignments.
"""

import asyncio
import gc
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import msgspec
import uvloop
from aiokafka import TopicPartition
from rocksdict import Checkpoint, WriteBatch

from benchmarks.long_lists import Asking, Following, LoopWatch, serving
from benchmarks.results import Results
from emis_streams import events
from emis_streams.cli.worker import collect_garbage_seldom
from emis_streams.collation import collated
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.events import Event
from emis_streams.fold import fold
from emis_streams.generate import Country, created
from emis_streams.node import Node
from emis_streams.read_model.keys import ASSIGNMENTS_OF_CLASS, NAMES, NAMES_OF_SCHOOL, WORDS_OF_NAMES
from emis_streams.read_model.model import CLASS, ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.search_query import Query
from emis_streams.settings import Settings
from emis_streams.topics import SUBJECTS
from web import PAGES

SCHOOLS_AT_ONCE = 50
"""Of each, the events of a topic are one slice: some thousand rows, as a follower has them."""
NEW_INDEXES = (NAMES, WORDS_OF_NAMES, NAMES_OF_SCHOOL, ASSIGNMENTS_OF_CLASS)
_ASKED = 500
"""Requests of each kind."""
_CHANGELOGS = {topic: s.changelog for s in SUBJECTS for topic in s.events}


def slices(country: Country) -> Iterator[ChangelogSlice]:
    """What a follower hands to the local copy, of the whole country."""
    schools = country.schools()
    while some := list(islice(schools, SCHOOLS_AT_ONCE)):
        by_topic: dict[str, list[Event]] = {}
        for school in some:
            for event in created(school):
                by_topic.setdefault(event.event_type, []).append(event)  # type: ignore[attr-defined]
        for topic, found in by_topic.items():
            yield _slice(topic, found)


def _slice(topic: str, found: list[Event]) -> ChangelogSlice:
    contract = events.CONTRACTS[topic]
    keys, now_ms = [getattr(event, contract.key).encode() for event in found], round(time.time() * 1000)
    decoded = events.decode(contract, keys, [msgspec.json.encode(event) for event in found], [now_ms] * len(keys))
    if decoded.refused:
        raise ValueError(f"{topic}: {decoded.refused[0][1]}")
    rows = fold(decoded, dict.fromkeys(decoded.keys)).rows
    kept = {key: (row, now_ms) for key, row in rows.items()}
    return ChangelogSlice(TopicPartition(_CHANGELOGS[topic], 0), "topic", kept, len(kept), len(kept))


async def fill(model: ReadModel, country: Country) -> tuple[int, float]:
    """Rows, and seconds of processor time of the thread that writes them."""
    sink, n_rows, seconds = ReadModelSink(model), 0, 0.0
    for part in slices(country):
        began = time.thread_time()
        await sink.apply([part])
        seconds += time.thread_time() - began
        n_rows += len(part.rows)
        gc.collect(0)
    return n_rows, seconds


def sizes(model: ReadModel, folder: Path) -> tuple[int, int]:
    """Bytes on disk after compaction: all, and without the indexes of names and of assignments by class."""
    db = model._db
    db.flush()
    db.compact_range(None, None)
    whole = _bytes_of(model.path)
    shutil.rmtree(folder, ignore_errors=True)
    Checkpoint(db).create_checkpoint(str(folder))
    with closing(ReadModel(folder)) as copy:
        batch = WriteBatch(raw_mode=True)
        for prefix in NEW_INDEXES:
            batch.delete_range(prefix, bytes([prefix[0] + 1]))
        copy.write(batch)
        copy._db.flush()
        copy._db.compact_range(None, None)
    without = _bytes_of(folder)
    shutil.rmtree(folder)
    return whole, without


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.sst"))


class Asked:
    """Queries of each kind, from names that there are."""

    def __init__(self, model: ReadModel, country: Country) -> None:
        self._dice = random.Random(5)
        numbers = [self._dice.randrange(country.n_schools) for _ in range(300)]
        happened = [event for number in numbers for event in created(country.school(number))]
        self._names = [e.full_name for e in happened if isinstance(e, events.TeacherCreated)]
        self._classes = [e for e in happened if isinstance(e, events.ClassCreated)]
        self._teacher_ids = [e.teacher_id for e in happened if isinstance(e, events.TeacherCreated)]
        words = {word.decode() for name in self._names for word in collated(name).words}
        self._beginnings = sorted({word[:2] for word in words})
        self._given = sorted({collated(name).words[-1].decode() for name in self._names})
        self._cursor = str(model.search(Query(()), (CLASS,), 1).next_after)

    def kinds(self) -> dict[str, Callable[[], str]]:
        """A path by what it asks for; each call gives another one."""
        pick = self._dice.choice
        return {
            "a whole name": lambda: _search(pick(self._names)),
            "family and given name": lambda: _search(f"{self._words()[0]} {self._words()[-1]}"),
            "middle and given name, two letters each": lambda: _search(" ".join(w[:2] for w in self._words()[-2:])),
            "two common words (nguyen thi)": lambda: _search("nguyen thi"),
            "two given names": lambda: _search(f"{pick(self._given)} {pick(self._given)}"),
            "one word": lambda: _search(pick(self._given)),
            "two letters": lambda: _search(pick(self._beginnings)),
            "one letter": lambda: _search(pick(self._beginnings)[0]),
            "a class": lambda: _search(pick(self._classes).class_name),
            "a class and its school": lambda: _search(f"{(c := pick(self._classes)).class_name} {c.school_id}"),
            "a school": lambda: _search(str(pick(self._classes).school_id)),
            "an id": lambda: _search(pick(self._teacher_ids)),
            "a page of all classes": lambda: f"/api/classes?after={self._cursor}",
            "a class's teachers": lambda: f"/api/classes/{pick(self._classes).class_id}/teachers",
        }

    def _words(self) -> list[str]:
        return [word.decode() for word in collated(self._dice.choice(self._names)).words]


def _search(text: str) -> str:
    return f"/api/search?q={quote(text)}"


async def _measure(model: ReadModel, country: Country, add: Callable[..., None]) -> None:
    node = Node(Settings(), frozenset({"serve"}), read_model=model, read_model_follower=Following())
    async with serving(node, *PAGES) as port, LoopWatch() as watch:
        asking = Asking(port, watch, lambda: None)
        for kind, path in Asked(model, country).kinds().items():
            ms, cpu_ms, n_results, n_ended_early = [], [], 0, 0
            for _ in range(_ASKED):
                asked = path()
                began, cpu_began = time.perf_counter(), time.thread_time()
                body = await asking.get(asked, {})
                ms.append((time.perf_counter() - began) * 1000)
                cpu_ms.append((time.thread_time() - cpu_began) * 1000)
                found = msgspec.json.decode(body)
                n_results += len(found.get("results", found.get("teachers", ())))
                n_ended_early += not found.get("complete", True)
            add(
                kind,
                p50_ms=_share(ms, 50),
                p99_ms=_share(ms, 99),
                cpu_p50_ms=_share(cpu_ms, 50),
                cpu_p99_ms=_share(cpu_ms, 99),
                results=round(n_results / _ASKED, 1),
                ended_early=f"{n_ended_early / _ASKED:.1%}",
            )


def _share(values: list[float], percent: int) -> float:
    return round(sorted(values)[len(values) * percent // 100], 1)


def run(n_classes: int, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Fills a local copy unless there is one in the folder, then measures its size and the answers."""

    def add(of: str, **figures: object) -> None:
        results.add("search", classes=n_classes, of=of, **figures)
        say(f"{of}: {figures}")

    uvloop.install()
    collect_garbage_seldom()  # As in a worker.
    country = Country(1, n_classes)
    with closing(ReadModel(folder / f"country-{n_classes}")) as model:
        if next(model.scan_keys(b"", b"\xff"), None) is None:
            n_rows, seconds = asyncio.run(fill(model, country))
            add("filling", rows=n_rows, rows_per_second=round(n_rows / seconds))
            whole, without = sizes(model, folder / "without-indexes")
            add("size", megabytes=whole >> 20, share_of_new_indexes=f"{(whole - without) / without:.1%}")
        model.note_caught_up()
        asyncio.run(_measure(model, country, add))
