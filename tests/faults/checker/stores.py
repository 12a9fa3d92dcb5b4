"""Changelogs, tables, read models, MariaDB and answers over HTTP against the truth."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from confluent_kafka import Message

from tests.faults.checker.findings import Findings
from tests.faults.checker.truth import Place, Truth
from tests.integration.independent import (
    GROUP,
    KINDS,
    Kept,
    Key,
    is_sound,
    items,
    kept_in,
    order_in,
    records,
    rows_in_read_model,
)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = b"\x00position"
CUT_BYTES = 64 * 1024
LARGEST_BYTES = 1_048_588
"""Kafka's own limit of a batch, which is that of the topics."""
CHANGELOGS = {f"{GROUP}-{kind}-changelog": kind for kind in KINDS}


def compare(store: str, found: Mapping[Key, Kept], truth: Truth, findings: Findings) -> None:
    """Every key of the truth, deleted ones too, has to be found with its version and its fields, and none beside."""
    for key, expected in truth.expected.items():
        _compare_one(store, key, found.get(key), expected, findings)
    for key in found.keys() - truth.expected.keys():
        findings.add("phantom", key, f"{store} has a row that no event explains")


def _compare_one(store: str, key: Key, found: Kept | None, expected: Kept, findings: Findings) -> None:
    if found == expected:
        return
    if found is None:
        findings.add("lost", key, f"{store} has nothing, expected {expected}")
    elif found[:4] < expected[:4]:
        kind = "resurrect" if expected.fields is None and found.fields is not None else "lost"
        findings.add(kind, key, f"{store} has {found}, expected {expected}")
    else:
        findings.add("divergent", key, f"{store} has {found}, expected {expected}")


# -- changelogs -----------------------------------------------------------------------------------


class Entry(NamedTuple):
    """A record of a changelog."""

    kind: str
    partition: int
    offset: int
    key: str
    row: bytes | None

    @property
    def version(self) -> bytes:
        return _version_of(self.row or b"")


def changelogs(brokers: str, own_ids: Collection[str]) -> list[Entry]:
    """All of their records about these ids, those of a partition in order."""
    return [entry for message in records(brokers, list(CHANGELOGS)) if (entry := _entry(message)).key[:36] in own_ids]


def _entry(message: Message) -> Entry:
    kind, key = CHANGELOGS[str(message.topic())], (message.key() or b"").decode(errors="replace")
    return Entry(kind, message.partition() or 0, message.offset() or 0, key, message.value())


def changelog_rows(brokers: str, own_ids: Collection[str], truth: Truth, findings: Findings) -> dict[Key, bytes]:
    """The last record of each key, checked."""
    return check_changelogs(changelogs(brokers, own_ids), truth, findings)


def check_changelogs(entries: Iterable[Entry], truth: Truth, findings: Findings) -> dict[Key, bytes]:
    """The row of each key. A lower version after a higher one must be followed by the higher one again.

    A topic that had more partitions leaves rows in partitions that are not their key's: versions decide between those.
    Counts decreases, and rows that were written again though their event was sent once: that was delivered again.
    """
    last: dict[tuple[Key, int], bytes] = {}
    highest: dict[tuple[Key, int], bytes] = {}
    written: Counter[tuple[Key, bytes]] = Counter()
    for entry in entries:
        key, row = (entry.kind, entry.key), entry.row
        at = (key, entry.partition)
        if row is None:
            findings.add("lost", key, f"the changelog has a null record at {entry.partition}:{entry.offset}")
            continue
        if not is_sound(row):
            findings.add("divergent", key, f"the version of {row!r} is not of its content")
        if kept_in(row)[:4] not in truth.versions.get(key, ()):
            findings.add("phantom", key, f"the changelog has {kept_in(row)}, which no event explains")
        findings.notes["changelog_decreases"] += _version_of(row) < _version_of(highest.get(at, b""))
        highest[at] = max(row, highest.get(at, b""), key=_version_of)
        last[at] = row
        written[key, row] += 1
    sent = Counter(truth.places.values())
    again = ((key, row, n - 1) for (key, row), n in written.items() if n > 1 and sent[kept_in(row).event_id] == 1)
    findings.notes["redelivered"] += sum(max(0, n - _n_of_first_time(key, row, truth)) for key, row, n in again)
    ends: dict[Key, bytes] = {}
    for (key, partition), row in last.items():
        if _version_of(row) < _version_of(highest[key, partition]):
            findings.add("reorder", key, "the changelog ends with a lower version than it had")
        ends[key] = max(row, ends.get(key, b""), key=_version_of)
    return ends


def _version_of(row: bytes) -> bytes:
    return row[:29]


def _n_of_first_time(key: Key, row: bytes, truth: Truth) -> int:
    """Events that have the time of the row's creation: each of them writes the row once more."""
    created_us = kept_in(row).created_us
    return sum(version[0] == created_us for version in truth.versions.get(key, ()))


# -- databases of stopped workers -----------------------------------------------------------------


class Partition(NamedTuple):
    """A table's partition on a worker: the one of its owner, or what a former one left."""

    owner: str
    kind: str
    number: int
    position: int
    """The next record of the changelog: everything before it is in the rows, it says."""
    topic_id: bytes
    """Of the changelog that the position is of."""
    rows: dict[Key, bytes]


def partitions(name: str, data_dir: Path, own_ids: Collection[str]) -> list[Partition]:
    """Of a worker that was stopped."""
    found = [(kind, path) for kind in KINDS for path in sorted(data_dir.glob(f"**/tables/{kind}/*"))]
    return [_partition(name, kind, path, own_ids) for kind, path in found if path.name.isdigit()]  # Else set aside.


def _partition(name: str, kind: str, path: Path, own_ids: Collection[str]) -> Partition:
    position, topic_id, rows = 0, b"", {}
    for key, value in items(path):
        if key == _POSITION:
            position, topic_id = int.from_bytes(value[:8], "big"), value[8:]
        elif key.decode()[:36] in own_ids:
            rows[kind, key.decode()] = value
    return Partition(name, kind, int(path.name), position, topic_id, rows)


def rows_of_owners(found: Iterable[Partition]) -> dict[Key, Kept]:
    """Rows of each partition's last owner: the worker whose position in the changelog is the highest.

    Of a row that several partitions have the one with the highest version.
    """
    newest: dict[tuple[str, int], Partition] = {}
    for part in found:
        at = (part.kind, part.number)
        if at not in newest or part.position > newest[at].position:
            newest[at] = part
    rows = [item for part in newest.values() for item in part.rows.items()]
    return {key: kept_in(row) for key, row in sorted(rows, key=lambda item: _version_of(item[1]))}


def check_positions(found: Sequence[Partition], entries: Iterable[Entry], findings: Findings) -> None:
    """No table lacks what its position says it has: who owns it next starts from there, former owners too."""
    topic_ids: dict[str, set[bytes]] = defaultdict(set)
    for part in found:
        topic_ids[part.kind].add(part.topic_id)
    by_partition: dict[tuple[str, int], list[Entry]] = defaultdict(list)
    for entry in entries:
        if len(topic_ids[entry.kind]) == 1:  # Else it was made anew, and who knows which position is of which.
            by_partition[entry.kind, entry.partition].append(entry)
    for part in found:
        for entry in by_partition[part.kind, part.number]:
            key = (entry.kind, entry.key)
            if entry.offset < part.position and _version_of(part.rows.get(key, b"")) < entry.version:
                said = f"{part.owner} is at {part.position} without what the changelog has at {entry.offset}"
                findings.add("lost", key, said)


def read_model_rows(data_dir: Path, own_ids: Collection[str]) -> dict[Key, Kept]:
    return {key: kept_in(row) for key, row in rows_in_read_model(data_dir).items() if key[1][:36] in own_ids}


# -- answers --------------------------------------------------------------------------------------


def compare_answer(worker: str, kind: str, key: str, status: int, body: Any, truth: Truth, findings: Findings) -> bool:
    """One answer after all is quiet: of a class or of a teacher, deleted ones too. Whether it is right."""
    expected = truth.expected.get((kind, key))
    wanted = 404 if expected is None else 410 if expected.fields is None else 200
    thing = (kind, key)
    if status != wanted:
        live = status == 200 and wanted != 200
        findings.add("resurrect" if live else "lost", thing, f"{worker} answers {status}, expected {wanted}")
        return False
    if expected is not None and expected.fields is not None:
        shown = _shown(kind, body)
        if kind == "teachers" and len({entry[:2] for entry in shown[1]}) < len(shown[1]):
            findings.add("dup_effect", thing, f"{worker} shows the same class twice: {shown[1]}")
            return False
        if shown != _to_be_shown(kind, key, expected, truth):
            findings.add("divergent", thing, f"{worker} answers {json.dumps(body, ensure_ascii=False)}, not {expected}")
            return False
    return True


def _shown(kind: str, body: Any) -> Any:
    if kind == "classes":
        raw, event_id = bytes.fromhex(body["version"]), body["eventId"]
        names = ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId")
        created_us = (datetime.fromisoformat(body["createdAt"]) - _EPOCH) // timedelta(microseconds=1)
        fields = tuple(body[n] for n in names)
        return Kept(int.from_bytes(raw[:8], "big"), raw[8], order_in(raw, event_id), event_id, created_us, fields)
    shown = ("assignmentId", "classId", "role", "subject", "className", "totalStudents", "deleted")
    entries = [tuple(c[name] for name in shown) for c in body["classAssignments"]]
    return (body["fullName"], body["email"], body["schoolId"]), sorted(entries, key=str)


def _to_be_shown(kind: str, key: str, expected: Kept, truth: Truth) -> Any:
    if kind == "classes":
        return expected
    rows = truth.expected
    assigned = [
        (row_key[37:], *row.fields)
        for (of, row_key), row in rows.items()
        if of == "assignments" and row_key.startswith(f"{key}|") and row.fields is not None
    ]
    taught = {class_id for _, class_id, *_ in assigned}
    homeroom = [
        (None, class_id, "homeroom", None)
        for (of, class_id), row in rows.items()
        if of == "classes" and row.fields is not None and row.fields[5] == key and class_id not in taught
    ]
    entries: list[tuple[Any, ...]] = []
    for entry in [*assigned, *homeroom]:
        row = rows.get(("classes", entry[1]))
        name, n_students = (None, None) if row is None or row.fields is None else (row.fields[0], row.fields[3])
        entries.append((*entry, name, n_students, row is not None and row.fields is None))
    return expected.fields, sorted(entries, key=str)


# -- dead letters ---------------------------------------------------------------------------------


class DeadLetter(NamedTuple):
    place: Place
    """Where the refused record was."""
    value: bytes | None
    reason: str
    is_cut: bool = False


def dead_letters(brokers: str, since_ms: int) -> Iterator[DeadLetter]:
    """Those that came since then: an older one may be of a topic that was made anew, and have the place of an event."""
    for message in records(brokers, ["emis.dead-letter"]):
        if message.timestamp()[1] < since_ms:
            continue
        said = _added(message.headers() or [])
        if said is None:
            continue
        place = Place(said["dlq.topic"], int(said["dlq.partition"]), int(said["dlq.offset"]))
        yield DeadLetter(place, message.value(), said["dlq.reason"], "dlq.cut" in said)


def _added(headers: list[tuple[str, bytes | None]]) -> dict[str, str] | None:
    """What a worker added behind the record's own headers; None if no worker wrote the record.

    Their number is in the last one; releases before added six (and one in front to a record that was cut).
    """
    if headers and headers[-1][0] == "dlq.headers":
        added = headers[int(headers[-1][1] or b"") :]
    elif headers and headers[-1][0] == "dlq.time":
        added = headers if headers[0][0] == "dlq.cut" else headers[-6:]
    else:
        return None
    return {name: (value or b"").decode() for name, value in added}


def check_dead_letters(letters: Iterable[DeadLetter], truth: Truth, findings: Findings) -> None:
    """Each useless record is there, byte by byte, with its origin; nothing useful is.

    Of one that is larger than topics take, which packing can bring in, the beginning has to be there.
    """
    told: set[Place] = set()
    for letter in letters:
        place = letter.place
        if place in truth.places:
            findings.add("lost", place, f"a good event is a dead letter: {letter.reason!r}")
        if place in truth.bad:
            findings.notes["dead_letters_again"] += place in told
            told.add(place)
            if letter.value != _as_dead_letter(truth.bad[place], letter.is_cut):
                findings.add("divergent", place, "the dead letter is not what was sent")
    for place in truth.bad.keys() - told:
        findings.add("lost", place, "a record that cannot be used is no dead letter")


def _as_dead_letter(value: bytes, is_cut: bool) -> bytes:
    return value[:CUT_BYTES] if is_cut and len(value) > LARGEST_BYTES - CUT_BYTES else value
