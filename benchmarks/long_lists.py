"""What answers about very long lists cost: `python -m benchmarks lists`. No brokers: local copies, and the real pages.

A placeholder teacher (all zeros) is the homeroom teacher of all classes, another one has an assignment in each; a user
has as many lessons and activities, another one 30,000.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import uvloop
from aiohttp import web
from aiokafka import TopicPartition
from rocksdict import WriteBatch

from benchmarks.data import text_id
from benchmarks.results import Results
from benchmarks.watching import median
from emis_streams import events
from emis_streams.cli.worker import collect_garbage_seldom
from emis_streams.engine.door import Runner
from emis_streams.engine.follower import ChangelogSlice
from emis_streams.fold import fold
from emis_streams.node import NODE, FollowerStatus, Node
from emis_streams.read_model.local_copy import LocalCopy
from emis_streams.read_model.model import ReadModel
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.read_model.user_rows import UserRows
from emis_streams.settings import Settings
from emis_streams.topics import LESSON_SUBJECTS, SUBJECTS
from web import PAGES, activity, load_templates, progress, setup

PLACEHOLDER = "00000000-0000-0000-0000-000000000000"
ASSIGNED, SOME_LESSONS, MANY_LESSONS = (text_id("long-list", n) for n in range(3))
_N_SOME_LESSONS = 30_000
_N_HONEST_TEACHERS, _N_HONEST_CLASSES = 30, 10
_BATCH = 2_000
_REPEATS = 9
_AT_ONCE = 16
_HTML = {"Accept": "text/html"}
_BEGIN = datetime(2026, 9, 5, tzinfo=UTC)
_NOW_MS = round(datetime(2027, 1, 1, tzinfo=UTC).timestamp() * 1000)
_CHANGELOGS = {topic: s.changelog for s in (*SUBJECTS, *LESSON_SUBJECTS) for topic in s.events}

Fields = dict[str, Any]
Copy = TypeVar("Copy", bound=LocalCopy)


def teachers_and_classes(n: int) -> Iterator[tuple[str, Fields]]:
    """Topic and fields of the events of the two long lists, and of some teachers beside them."""
    names = {PLACEHOLDER: "Chưa phân công", ASSIGNED: "Nguyễn Văn Nhiều"}
    honest = [text_id("honest", m) for m in range(_N_HONEST_TEACHERS)]
    for teacher_id in (*names, *honest):
        yield "emis.teacher.created", {"teacherId": teacher_id, "fullName": names.get(teacher_id, "Trần Thị An")}
    classes_of_honest = _N_HONEST_TEACHERS * _N_HONEST_CLASSES
    for m in range(n):
        fields = {"classId": text_id("class", m), "className": f"Lớp 10A{m}", "grade": "Khối 10", "totalStudents": 41}
        yield "emis.class.created", {**fields, "academicYear": "2026-2027", "homeroomTeacherId": PLACEHOLDER}
    for m in range(n + classes_of_honest):
        teacher_id = ASSIGNED if m < n else honest[(m - n) // _N_HONEST_CLASSES]
        ids = {"assignmentId": text_id("assignment", m), "teacherId": teacher_id, "classId": text_id("class", m % n)}
        yield "emis.assignment.created", {**ids, "role": "subject-teacher", "subject": "Toán"}


def lessons(n: int) -> Iterator[tuple[str, Fields]]:
    """Lessons and activities of the two users."""
    for topic in ("emis.lesson-available", "emis.user-activity"):
        for user_id, n_of_user in ((MANY_LESSONS, n), (SOME_LESSONS, min(n, _N_SOME_LESSONS))):
            for m in range(n_of_user):
                yield topic, {"userId": user_id, "lessonId": text_id("lesson", m), "title": f"Phân số {m}"}


async def _opened(folder: Path, kind: Callable[[Path], Copy], happened: Iterator[tuple[str, Fields]]) -> Copy:
    """A local copy in the folder with what has happened; one that is there already is used again."""
    copy = kind(folder)
    if next(copy.scan_keys(b"", b"\xff"), None) is None:
        await fill(copy, happened)
    copy.note_caught_up()
    return copy


async def fill(copy: LocalCopy, happened: Iterator[tuple[str, Fields]]) -> None:
    """What agents, tables and followers make of the events; those of a topic follow each other."""
    sink, batch, batch_topic = ReadModelSink(copy), [], ""
    for number, (topic, fields) in enumerate(happened):
        if batch and (topic != batch_topic or len(batch) == _BATCH):
            await sink.apply([_slice(batch_topic, batch)])
            batch = []
        at = _BEGIN + timedelta(milliseconds=number)
        batch.append({"eventId": text_id("event", number), "eventType": topic, "timestamp": at, **fields})
        batch_topic = topic
    await sink.apply([_slice(batch_topic, batch)])


def _slice(topic: str, happened: list[Fields]) -> ChangelogSlice:
    contract = events.CONTRACTS[topic]
    keys = [event[events.camel(contract.key)].encode() for event in happened]
    found = events.decode(contract, keys, [msgspec.json.encode(e) for e in happened], [_NOW_MS] * len(keys))
    if found.refused:
        raise ValueError(f"{topic}: {found.refused[0][1]}")
    rows = fold(found, dict.fromkeys(found.keys)).rows
    kept = {key: (row, _NOW_MS) for key, row in rows.items()}
    return ChangelogSlice(TopicPartition(_CHANGELOGS[topic], 0), "topic", kept, len(kept), len(kept))


class Following:
    """A follower that has caught up."""

    def status(self) -> FollowerStatus:
        return FollowerStatus("read-model", True, {}, 0, None)


@asynccontextmanager
async def serving(node: Node, *modules: Any) -> AsyncIterator[int]:
    """The pages of a worker on a port."""
    app = web.Application()
    app[NODE] = node
    setup(app)
    load_templates(app)
    for module in modules:
        app.add_routes(module.routes)
    runner = Runner(app)
    await runner.setup()
    try:
        await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
        yield site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
    finally:
        await runner.cleanup()


class LoopWatch:
    """The longest time for which the loop ran nothing else."""

    def __init__(self) -> None:
        self.longest_seconds = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_error: object) -> None:
        self._task.cancel()

    async def _run(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest_seconds = max(self.longest_seconds, time.perf_counter() - began - 0.001)


@dataclass
class Asking:
    """Asks a server in this process. Its processor time is that of the loop's thread; reading an answer is some µs."""

    port: int
    watch: LoopWatch
    before: Callable[[], None]
    """Done before each request: what was remembered of answers is forgotten."""

    async def get(self, path: str, headers: dict[str, str]) -> bytes:
        """The body; raises RuntimeError if it is not 200."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        lines = [f"GET {path} HTTP/1.1", "Host: 127.0.0.1", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
        head, _, body = (await reader.read(-1)).partition(b"\r\n\r\n")
        writer.close()
        if b" 200 " not in head[:20]:
            raise RuntimeError(f"{path}: {head.decode()}")
        return body

    async def cost(self, path: str, headers: dict[str, str] | None = None, at_once: int = 1) -> Fields:
        """Of one answer: processor time (median, most), bytes; and the longest pause of the loop."""
        cpu_ms, n_bytes = [], 0
        await asyncio.sleep(0.01)  # What the harness itself did before is no pause of the server.
        self.watch.longest_seconds = 0.0
        for _ in range(_REPEATS):
            self.before()
            began = time.thread_time()
            n_bytes = len((await asyncio.gather(*(self.get(path, headers or {}) for _ in range(at_once))))[0])
            cpu_ms.append((time.thread_time() - began) * 1000 / at_once)
        return {
            "cpu_ms": round(median(cpu_ms), 1),
            "most_cpu_ms": round(max(cpu_ms), 1),
            "longest_pause_ms": round(self.watch.longest_seconds * 1000, 1),
            "bytes": n_bytes,
        }

    def last_page(self, teacher_id: str, n: int) -> str:
        """Begins after an entry near the end, as ids of classes are known."""
        last = sorted(text_id("class", m) for m in range(n))[-min(n, 200)]
        return f"/api/teachers/{teacher_id}?after={last}"


async def _ask_of_teachers(asking: Asking, model: ReadModel, n: int, add: Callable[..., None]) -> None:
    middle = "?after=80000000-0000-0000-0000-000000000000"
    for name, teacher_id in (("homeroom classes", PLACEHOLDER), ("assignments", ASSIGNED)):
        for page, path in (
            ("first page", f"/api/teachers/{teacher_id}"),
            ("a page in the middle", f"/api/teachers/{teacher_id}{middle}"),
            ("last page", asking.last_page(teacher_id, n)),
        ):
            add(f"{name}, {page}", "JSON", **await asking.cost(path))
        add(f"{name}, first page", "HTML", **await asking.cost(f"/teachers/{teacher_id}", _HTML))
        add(f"{name}, a page in the middle", "HTML", **await asking.cost(f"/teachers/{teacher_id}{middle}", _HTML))
    add("overview", "JSON", **await asking.cost("/"))
    add("overview", "HTML", **await asking.cost("/", _HTML))
    add("class", "HTML", **await asking.cost(f"/classes/{text_id('class', 0)}", _HTML))
    for path in ("/health", "/metrics"):
        add(path, "as it is", **await asking.cost(path))
    counting = asyncio.create_task(model.entry_counts.run())
    try:
        add("/livez while lists are counted", "JSON", **await _livez_while_counted(asking, model, n))
    finally:
        counting.cancel()
    add("homeroom classes, counted", "JSON", **await asking.cost(f"/api/teachers/{PLACEHOLDER}"))


async def _livez_while_counted(asking: Asking, model: ReadModel, n: int) -> Fields:
    asking.watch.longest_seconds, most_ms, began = 0.0, 0.0, time.perf_counter()
    while model.entry_counts.of(PLACEHOLDER.encode()) != (n, True):
        asked = time.perf_counter()
        n_bytes = len(await asking.get("/livez", {}))
        most_ms = max(most_ms, (time.perf_counter() - asked) * 1000)
        await asyncio.sleep(0.005)
    return {
        "most_ms": round(most_ms, 1),
        "longest_pause_ms": round(asking.watch.longest_seconds * 1000, 1),
        "bytes": n_bytes,
        "seconds": round(time.perf_counter() - began, 1),
    }


async def _ask_of_users(asking: Asking, add: Callable[..., None]) -> None:
    for name, user_id in (("30,000 lessons", SOME_LESSONS), ("all lessons", MANY_LESSONS)):
        for limit in (1, 100):
            for path in (f"/progress/{user_id}", f"/users/{user_id}/activity"):
                add(f"{name}, {path.split('/')[1]}", f"limit={limit}", **await asking.cost(f"{path}?limit={limit}"))
        path = f"/progress/{user_id}?limit=100"
        add(f"{name}, {_AT_ONCE} at once", "limit=100", **await asking.cost(path, at_once=_AT_ONCE))


async def _measure_teachers(folder: Path, n: int, add: Callable[..., None]) -> None:
    with closing(await _opened(folder / f"teachers-{n}", ReadModel, teachers_and_classes(n))) as model:
        node = Node(Settings(), frozenset({"serve"}), read_model=model, read_model_follower=Following())
        async with serving(node, *PAGES) as port, LoopWatch() as watch:
            await _ask_of_teachers(Asking(port, watch, lambda: model.write(WriteBatch(raw_mode=True))), model, n, add)


async def _measure_users(folder: Path, n: int, add: Callable[..., None]) -> None:
    with closing(await _opened(folder / f"users-{n}", UserRows, lessons(n))) as copy:
        node = Node(Settings(), frozenset(), user_rows=copy, read_model_follower=Following())
        async with serving(node, progress, activity) as port, LoopWatch() as watch:
            await _ask_of_users(Asking(port, watch, lambda: None), add)


def run(n: int, folder: Path, results: Results, say: Callable[[str], None]) -> None:
    """Measures lists of n rows; copies that are in the folder already are used again."""

    def add(of: str, form: str, **figures: Any) -> None:
        results.add("long-list", rows=n, of=of, form=form, **figures)
        say(f"{of} ({form}): {figures}")

    uvloop.install()
    collect_garbage_seldom()  # As in a worker.
    for measure in (_measure_teachers, _measure_users):
        asyncio.run(measure(folder, n, add))
