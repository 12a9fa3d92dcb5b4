"""What workers keep on disk: deleted, damaged, locked, without room; and the changelogs that it comes from."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from confluent_kafka import OFFSET_END, TopicPartition
from confluent_kafka.admin import AdminClient

from emis_streams.topics import SUBJECTS
from tests.faults.course import Course, Evidence, Row
from tests.faults.rows import told
from tests.faults.rows.compaction import compacted
from tests.faults.rows.logs import NewLines
from tests.faults.rows.own_events import Own, ago, class_event, passed, send
from tests.faults.stage import WORKER, FaultWorker, until
from tests.integration import independent

_LIMIT_SECONDS = 40.0
_BLOCK_BYTES = 4096
_N_MORE_CLASSES = 10_000
_BLOCK_BYTES = 1024
"""At most the size of a block of RocksDB's."""
_CHANGELOGS = [subject.changelog for subject in SUBJECTS]

_HOLD = """
import sys, rocksdict
held = [rocksdict.Rdict(path, rocksdict.Options(raw_mode=True)) for path in sys.argv[1:]]
print("held", flush=True)
sys.stdin.read()
"""
"""Opens databases and keeps them until its input ends."""


def _tables(worker: FaultWorker) -> list[Path]:
    """Databases of the partitions of classes, by partition."""
    return sorted(path for path in worker.data_dir.glob("**/tables/classes/*") if path.name.isdigit())


def _read_model(worker: FaultWorker) -> Path:
    return worker.data_dir / "read-model"


async def _until_said(log: NewLines, text: str) -> None:
    await until(lambda: bool(log.with_any([text])), _LIMIT_SECONDS, f"a worker says: {text}", 0.02)


# -- deleted --------------------------------------------------------------------------------------


async def deleted(course: Course) -> Evidence:
    """The folder of a stopped worker, after ten thousand classes more than the load has came in."""
    places = await send(course, (class_event(str(uuid.uuid4()), "created", ago(0)) for _ in range(_N_MORE_CLASSES)))
    await passed(course, places)
    victim = course.workers[0]
    await victim.stop()
    n_tables = len(_tables(victim))
    shutil.rmtree(victim.data_dir)
    log = NewLines([victim])
    started_at = time.monotonic()
    victim.start()
    await victim.ready()
    said = {"seconds_until_ready": round(time.monotonic() - started_at, 1), "tables": n_tables, **_rates(log)}
    return Evidence(bit=n_tables > 0 and said["records"] > _N_MORE_CLASSES, said=said)


def _rates(log: NewLines) -> dict[str, float]:
    """Of the read model, which follows all changelogs: from the first line of the worker to its being level."""
    lines = log.with_any(["read-model: caught up, ", "taking over"])
    begun, level = (_time(line) for line in (lines[0], lines[-1]))
    found = re.search(r"read-model: caught up, (\d+) records", "\n".join(lines))
    records = int(found.group(1)) if found else 0
    seconds = max(0.001, (level - begun).total_seconds())
    return {"records": records, "seconds_per_100k": round(100_000 * seconds / max(1, records), 1)}


def _time(line: str) -> datetime:
    return datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f")


# -- damaged --------------------------------------------------------------------------------------


def _flip(file: Path) -> None:
    """One bit of each KiB of the first half, which are blocks of data: whatever is asked for, some of it is harmed."""
    raw = bytearray(file.read_bytes())
    for at in range(_BLOCK_BYTES // 2, max(len(raw) // 2, _BLOCK_BYTES), _BLOCK_BYTES):
        raw[at] ^= 0x10
    file.write_bytes(raw)


def _truncate(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def _garble(file: Path) -> None:
    """Another content of the same length."""
    file.write_bytes(bytes(byte ^ 0x5A for byte in file.read_bytes()))


_HARMS: list[tuple[str, Callable[[Path], None]]] = [
    ("*.sst", _flip),  # Opening says nothing of it.
    ("*.sst", _truncate),
    ("MANIFEST-*", _garble),
    ("CURRENT", _garble),
]


def _damage(database: Path, number: int) -> str:
    pattern, harm = _HARMS[number % len(_HARMS)]
    files = list(database.glob(pattern))
    for file in files:
        harm(file)
    return f"{database.name}: {harm.__name__[1:]} {len(files)} {pattern}"


async def corrupt_tables(course: Course) -> Evidence:
    """Of each of the partitions of one worker another part is damaged while it is stopped."""
    victim = course.workers[0]
    await victim.stop()
    tables = _tables(victim)
    said = [_damage(path, n) for n, path in enumerate(tables)]
    log = NewLines([victim])
    victim.start()
    await _until_said(log, "cannot be read")
    await victim.ready()
    set_aside = [path for path in tables if path.with_name(f"{path.name}.corrupt").exists()]
    for path in tables:
        if path not in set_aside:  # Of a partition that went to another worker: nobody has opened it.
            shutil.rmtree(path, ignore_errors=True)
    return Evidence(bit=bool(set_aside), said={"damaged": said, "set_aside": [path.name for path in set_aside]})


async def corrupt_read_models(course: Course) -> Evidence:
    """Of each worker's local copy another part is damaged, one worker after the other."""
    said, set_aside = [], []
    log = NewLines(course.workers)
    for number, worker in enumerate(course.workers):
        await worker.stop()
        said.append(f"{worker.name} {_damage(_read_model(worker), number)}")
        worker.start()
        await worker.ready()
        set_aside = log.with_any(["read-model cannot be read"])
    await course.rest(3)  # A block is read when it is asked for: it may take a moment.
    set_aside = log.with_any(["read-model cannot be read"])
    await course.stage.all_ready()
    bit = len(set_aside) >= len(course.workers)
    return Evidence(bit=bit, said={"damaged": said, "set_aside": len(set_aside), "first": set_aside[0][-160:]})


async def corrupt_later(course: Course) -> Evidence:
    """Blocks of a local copy turn corrupt when it is open, and before they are read (later the cache has them)."""
    victim = course.workers[0]
    await victim.stop()
    log, model = NewLines([victim]), _read_model(victim)
    files = list(model.glob("*.sst"))
    opened_before = _inode(model / "LOG")
    victim.start()
    await until(lambda: _inode(model / "LOG") not in (None, opened_before), _LIMIT_SECONDS, "it is opened", 0.002)
    victim.freeze()
    for file in files:
        _flip_blocks_in_place(file)
    victim.thaw()
    await _until_said(log, "cannot be read")
    await until(lambda: not victim.process.running, _LIMIT_SECONDS, "the worker ends", 0.02)
    code = victim.process.returncode
    await victim.ready()
    found = log.with_any(["is damaged and set aside"])
    return Evidence(bit=bool(found), said={"files_harmed": len(files), "exit_code": code, "line": found[0][-160:]})


def _inode(file: Path) -> int | None:
    return file.stat().st_ino if file.exists() else None


def _flip_blocks_in_place(file: Path) -> None:
    """A byte of every block of data, whichever is read first; what is at the end says where blocks are."""
    with file.open("r+b") as opened:
        for at in range(_BLOCK_BYTES // 2, file.stat().st_size * 3 // 4, _BLOCK_BYTES // 2):
            opened.seek(at)
            byte = opened.read(1)
            opened.seek(at)
            opened.write(bytes([byte[0] ^ 0x10]))


# -- locked, without room, without files ----------------------------------------------------------


async def locked(course: Course) -> Evidence:
    """Another process has first the local copy open, then a partition of a table."""
    victim = course.workers[0]
    said, bit, broken = {}, True, []
    for name, path_of in (("read_model", _read_model), ("table", lambda w: _tables(w)[0])):
        await victim.stop()
        log = NewLines([victim])
        with _held(path_of(victim)) as path:
            victim.start()
            await _until_said(log, "is in use by")
            await until(lambda: not victim.process.running, _LIMIT_SECONDS, "the worker ends", 0.02)
            code = victim.process.returncode
            lines = log.with_any([str(path)])
        await victim.ready()
        said[name] = {"exit_code": code, "line": lines[0][-140:]}
        bit = bit and code not in (None, 0)
        if log.with_any(["Traceback"]):
            broken.append(f"{name}: a traceback tells what a line should")
    return Evidence(bit=bit, said=said, broken=broken)


@contextmanager
def _held(path: Path) -> Iterator[Path]:
    command = [sys.executable, "-c", _HOLD, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        if holder.stdout.readline() != "held\n":
            raise RuntimeError(f"{path} could not be opened")
        yield path
    finally:
        holder.communicate()


async def disk_full(course: Course) -> Evidence:
    """A disk of its own for one worker: filled while it runs, until it has room again."""
    victim = course.workers[0]
    await victim.stop()
    with _small_disk(victim):
        log = NewLines([victim])
        victim.start()
        await victim.ready()
        filler = victim.data_dir / "filler"
        _fill(filler)
        await send(course, _heavy_rows())
        full = ["No space left on device"]
        await until(lambda: bool(log.with_any(full)), _LIMIT_SECONDS, "the disk is full")
        await until(lambda: not victim.process.running, _LIMIT_SECONDS, "the worker ends", 0.02)
        code = victim.process.returncode
        await course.rest(4)  # Started again meanwhile, it ends each time.
        filler.unlink()
        healed_at = time.monotonic()
        await victim.ready()
        lines = log.with_any(full)
        await victim.stop()
    victim.start()
    await victim.ready()
    said = {"exit_code": code, "line": lines[0][-200:], "last": lines[-1][-200:], "n_lines": len(lines)}
    return Evidence(bit=code not in (None, 0), healed_at=healed_at, said=said)


@contextmanager
def _small_disk(worker: FaultWorker) -> Iterator[None]:
    """In place of its folder, which has what was on it afterwards. (Mounting needs root.)"""
    folder = worker.data_dir
    kept = folder.with_name("kept")
    shutil.move(folder, kept)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(folder)], check=True)
    try:
        shutil.copytree(kept, folder, dirs_exist_ok=True)
        yield
        shutil.rmtree(kept)
        shutil.copytree(folder, kept)
    finally:
        worker.kill()  # If it still runs, something else has failed.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        shutil.rmtree(folder)
        shutil.move(kept, folder)


def _fill(file: Path) -> None:
    with file.open("wb", buffering=0) as out:
        try:
            while True:
                out.write(bytes(1 << 16))
        except OSError:
            return


def _heavy_rows() -> Iterator[Own]:
    """More than a memtable of the local copy holds: what is written has to go to the disk."""
    name, grade = "ệ" * 200, "ệ" * 50
    classes = [str(uuid.uuid4()) for _ in range(4_000)]
    for n in range(60_000):
        yield class_event(classes[n % len(classes)], "updated", ago(0), className=name, grade=grade)


async def few_files(course: Course) -> Evidence:
    """A limit of open files that is too low: it says so and ends, and goes on once there are more."""
    victim = course.workers[0]
    await victim.stop()
    log = NewLines([victim])
    victim.start(["bash", "-c", 'ulimit -n 48; exec "$@"', "bash", *WORKER])
    await until(lambda: not victim.process.running, _LIMIT_SECONDS, "the worker ends", 0.02)
    code = victim.process.returncode
    await victim.ready()
    lines = log.with_any(["this process may open 48 files"])
    return Evidence(bit=bool(lines), said={"exit_code": code, "line": lines[0][-200:] if lines else None})


# -- changelogs -----------------------------------------------------------------------------------


async def truncated(course: Course) -> Evidence:
    """Records that all copies have are deleted from the changelogs, then copies are opened again.

    Who has a copy goes on with it. The logs themselves are whole again when the events are read once more,
    as operations.md says: an equal row is written again.
    """
    before = await told.watermarks(course.stage, _CHANGELOGS)
    async with course.paused_load():
        await course.rest(3)
        await _delete_records(course)
        await _restart_all(course)
        await course.rest(2)
        broken = await _answers_lost(course)
        await _read_sources_again(course)
    after = await told.watermarks(course.stage, _CHANGELOGS)
    deleted_records = sum(begin - before[at][0] for at, (begin, _) in after.items())
    return Evidence(bit=deleted_records > 0, broken=broken, said={"records_deleted": deleted_records})


async def _delete_records(course: Course) -> None:
    """Brokers do so only where the policy is not to compact alone."""
    admin = AdminClient({"bootstrap.servers": course.stage.brokers})
    await told.configure(course.stage, _CHANGELOGS, {"cleanup.policy": "compact,delete", "retention.ms": "-1"})
    ends = [TopicPartition(topic, n, OFFSET_END) for topic, n in await told.watermarks(course.stage, _CHANGELOGS)]
    for done in admin.delete_records(ends, request_timeout=10, operation_timeout=10).values():
        await asyncio.wrap_future(done)
    await told.configure(course.stage, _CHANGELOGS, {"cleanup.policy": "compact", "retention.ms": None})


async def _restart_all(course: Course) -> None:
    for worker in course.workers:
        await worker.stop()
    for worker in course.workers:
        worker.start()
    await course.stage.all_ready()


async def _answers_lost(course: Course) -> list[str]:
    """Of those things of the district that a worker knew before; none may be unknown now."""
    lost = []
    for worker in course.workers:
        asked = [asyncio.to_thread(worker.get, f"/api/classes/{key}") for key in course.district.classes]
        unknown = sum(status == 404 for status, _ in await asyncio.gather(*asked))
        if unknown:
            lost.append(f"{worker.name} knows {unknown} classes no more")
    return lost


async def _read_sources_again(course: Course) -> None:
    """The group's offsets to the beginning, which only a group without members allows."""
    for worker in course.workers:
        await worker.stop()
    begins = {at: begin for at, (begin, _) in (await told.watermarks(course.stage, independent.SOURCES)).items()}
    await told.set_offsets(course.stage, begins)
    for worker in course.workers:
        worker.start()
    await course.stage.all_ready()


async def made_anew(course: Course) -> Evidence:
    """The changelog of classes is deleted and made again while no worker runs: their tables are all that is left."""
    log = NewLines(course.workers)
    async with course.paused_load():
        for worker in course.workers:
            await worker.stop()
        await _make_anew(course, _CHANGELOGS[0])
        for worker in course.workers:
            worker.start()
        await course.stage.all_ready()
        await course.rest(2)
        broken = await _answers_lost(course)
    await _until_said(log, _SENT_AGAIN)
    return _sent_again(log, broken)


async def made_anew_under_way(course: Course) -> Evidence:
    """The same while all is at work: what is written meanwhile waits for the topic, or is in the new one."""
    log = NewLines(course.workers)
    await _make_anew(course, _CHANGELOGS[0])
    await _until_said(log, _SENT_AGAIN)
    return _sent_again(log, await _answers_lost(course))


_SENT_AGAIN = "has lost records: sent again"


def _sent_again(log: NewLines, broken: list[str]) -> Evidence:
    noticed = log.with_any([_SENT_AGAIN])
    return Evidence(bit=bool(noticed), broken=broken, said={"noticed": len(noticed), "first": noticed[:1]})


async def _make_anew(course: Course, changelog: str) -> None:
    config = await told.config_of(course.stage, changelog)
    await told.delete_topic(course.stage, changelog)
    await told.until_gone(course.stage, changelog)
    await told.create_topic(course.stage, changelog, config)
    await told.until_led(course.stage, changelog)


async def compacted_while_written(course: Course) -> Evidence:
    """Compaction of all changelogs, while they are written and followed, and a follower is away."""
    away = course.workers[1]
    await away.stop()
    removed = await asyncio.gather(*(compacted(course.stage, changelog) for changelog in _CHANGELOGS))
    away.start()
    await away.ready()
    return Evidence(bit=min(removed) > 0, said={"records_removed": removed})


async def tombstones(course: Course) -> Evidence:
    """A worker and the replica are away while classes are deleted and the changelog is compacted, and come back.

    Kafka's own tombstones would be gone by then; our markers of deletes are rows, and stay.
    """
    stage, away, changelog = course.stage, course.workers[1], _CHANGELOGS[0]
    victims = course.district.classes[:40]
    await away.stop()
    stage.set_knobs([stage.db_proxy], refuse=True)
    stage.proxies.do(stage.db_proxy.cut_all)
    await told.configure(stage, [changelog], {"delete.retention.ms": "0"})
    try:
        await passed(course, await send(course, [class_event(c, "deleted", ago(0)) for c in victims]))
        removed = await compacted(stage, changelog)
    finally:
        await told.configure(stage, [changelog], {"delete.retention.ms": None})
        stage.set_knobs([stage.db_proxy], refuse=False)
    away.start()
    await away.ready()
    gone = [await asyncio.to_thread(away.get, f"/api/classes/{class_id}") for class_id in victims]
    n_gone = sum(status == 410 for status, _ in gone)
    return Evidence(bit=removed > 0 and n_gone > 0, said={"records_removed": removed, "answered_gone": n_gone})


ROWS = [
    Row("24", "a worker's databases are deleted", deleted, in_ci=True),
    Row("25", "a worker's tables are corrupt", corrupt_tables),
    Row("25a", "the local copies are corrupt", corrupt_read_models),
    Row("25b", "blocks turn corrupt while they are open", corrupt_later),
    Row("26", "another process has a worker's databases open", locked),
    Row("27", "a worker's disk is full", disk_full),
    Row("28", "records are deleted from the changelogs", truncated),
    Row("28a", "a changelog is deleted and made anew while no worker runs", made_anew),
    Row("28c", "a changelog is deleted and made anew under way", made_anew_under_way),
    Row("28b", "the changelogs are compacted", compacted_while_written),
    Row("tombstones", "followers come back after deletes were compacted", tombstones),
    Row("42", "a worker may not open enough files", few_files),
]
