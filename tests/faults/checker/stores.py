"""Changelogs, tables, read models, MariaDB and answers over HTTP against the truth."""

import json
import uuid
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import Message
from rocksdict import AccessType, Options, Rdict

from tests.faults.checker.findings import Findings
from tests.faults.checker.truth import Place, Truth
from tests.integration.independent import GROUP, KINDS, Kept, Key, kept_in, records, rows_in_read_model

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
    elif found[:3] < expected[:3]:
        kind = "resurrect" if expected.fields is None and found.fields is not None else "lost"
        findings.add(kind, key, f"{store} has {found}, expected {expected}")
    else:
        findings.add("divergent", key, f"{store} has {found}, expected {expected}")


# -- changelogs -----------------------------------------------------------------------------------


def changelog_rows(brokers: str, own_ids: Collection[str], truth: Truth, findings: Findings) -> dict[Key, bytes]:
    """The last record of each key. A lower version after a higher one must be followed by the higher one again.

    Counts decreases, and rows that were written again though their event was sent once: that was delivered again.
    """
    last: dict[Key, bytes] = {}
    highest: dict[Key, bytes] = {}
    written: Counter[tuple[Key, bytes]] = Counter()
    decreases = 0
    for message in records(brokers, list(CHANGELOGS)):
        key = _own_key(message, own_ids)
        if key is None:
            continue
        row = message.value()
        if row is None:
            findings.add("lost", key, f"the changelog has a null record at {message.topic()} {message.offset()}")
            continue
        decreases += row[:29] < highest.get(key, b"")[:29]
        highest[key] = max(row, highest.get(key, b""), key=lambda r: r[:29])
        last[key] = row
        written[key, row] += 1
    sent = Counter(truth.places.values())
    again = ((n - 1) for (_, row), n in written.items() if n > 1 and sent[kept_in(row).event_id] == 1)
    findings.notes["redelivered"] += sum(again)
    for key, row in last.items():
        if row[:29] < highest[key][:29]:
            findings.add("reorder", key, "the changelog ends with a lower version than it had")
    findings.notes["changelog_decreases"] += decreases
    return last


def _own_key(message: Message, own_ids: Collection[str]) -> Key | None:
    text = (message.key() or b"").decode()
    return (CHANGELOGS[str(message.topic())], text) if text[:36] in own_ids else None


# -- databases of stopped workers -----------------------------------------------------------------


def table_rows(data_dirs: Sequence[Path], own_ids: Collection[str]) -> dict[Key, Kept]:
    """Rows of each partition's last owner: the worker whose position in the changelog is the highest."""
    newest: dict[tuple[str, str], tuple[int, dict[Key, Kept]]] = {}
    for data_dir in data_dirs:
        for kind in KINDS:
            for path in sorted(data_dir.glob(f"**/tables/{kind}/*")):
                if not path.name.isdigit():
                    continue  # set aside
                position, rows = _partition(path, kind, own_ids)
                if position > newest.get((kind, path.name), (-1, {}))[0]:
                    newest[kind, path.name] = (position, rows)
    return {key: row for _, rows in newest.values() for key, row in rows.items()}


def _partition(path: Path, kind: str, own_ids: Collection[str]) -> tuple[int, dict[Key, Kept]]:
    database = Rdict(str(path), Options(raw_mode=True), access_type=AccessType.read_only())
    position, rows = 0, {}
    try:
        for key, value in database.items():
            if key == _POSITION:
                position = int.from_bytes(value[:8], "big")
            elif key.decode()[:36] in own_ids:
                rows[kind, key.decode()] = kept_in(value)
    finally:
        database.close()
    return position, rows


def read_model_rows(data_dir: Path, own_ids: Collection[str]) -> dict[Key, Kept]:
    return {key: kept_in(row) for key, row in rows_in_read_model(data_dir).items() if key[1][:36] in own_ids}


# -- answers --------------------------------------------------------------------------------------


def compare_answer(worker: str, kind: str, key: str, status: int, body: Any, truth: Truth, findings: Findings) -> None:
    """One answer after all is quiet: of a class or of a teacher, deleted ones too."""
    expected = truth.expected.get((kind, key))
    wanted = 404 if expected is None else 410 if expected.fields is None else 200
    thing = (kind, key)
    if status != wanted:
        live = status == 200 and wanted != 200
        findings.add("resurrect" if live else "lost", thing, f"{worker} answers {status}, expected {wanted}")
    elif expected is not None and expected.fields is not None:
        shown = _shown(kind, body)
        if shown != _to_be_shown(kind, key, expected, truth):
            findings.add("divergent", thing, f"{worker} answers {json.dumps(body, ensure_ascii=False)}, not {expected}")


def _shown(kind: str, body: Any) -> Any:
    if kind == "classes":
        raw = bytes.fromhex(body["version"])
        names = ("className", "grade", "academicYear", "totalStudents", "schoolId", "homeroomTeacherId")
        return int.from_bytes(raw[:8], "big"), raw[8], str(uuid.UUID(bytes=raw[9:25])), tuple(body[n] for n in names)
    entries = [(c["assignmentId"], c["classId"], c["className"], c["deleted"]) for c in body["classAssignments"]]
    return (body["fullName"], body["email"], body["schoolId"]), sorted(entries, key=str)


def _to_be_shown(kind: str, key: str, expected: Kept, truth: Truth) -> Any:
    if kind == "classes":
        return (*expected[:3], expected.fields)
    rows = truth.expected
    assigned = [
        (row_key[37:], row.fields[0])
        for (of, row_key), row in rows.items()
        if of == "assignments" and row_key.startswith(f"{key}|") and row.fields is not None
    ]
    taught = {class_id for _, class_id in assigned}
    homeroom = [
        (None, class_id)
        for (of, class_id), row in rows.items()
        if of == "classes" and row.fields is not None and row.fields[5] == key and class_id not in taught
    ]
    entries = []
    for assignment_id, class_id in [*assigned, *homeroom]:
        row = rows.get(("classes", class_id))
        name = None if row is None or row.fields is None else row.fields[0]
        entries.append((assignment_id, class_id, name, row is not None and row.fields is None))
    return expected.fields, sorted(entries, key=str)


# -- dead letters ---------------------------------------------------------------------------------


def check_dead_letters(brokers: str, truth: Truth, findings: Findings) -> None:
    """Each useless record is there, byte by byte, with its origin; nothing useful is.

    Of one that is larger than topics take, which packing can bring in, the beginning has to be there.
    """
    told: set[Place] = set()
    for message in records(brokers, ["emis.dead-letter"]):
        headers = {name: value for name, value in message.headers() or () if name.startswith("dlq.")}
        place = Place(*(headers[f"dlq.{n}"].decode() for n in ("topic", "partition", "offset")))
        place = Place(place.topic, int(place.partition), int(place.offset))
        if place in truth.places:
            findings.add("lost", place, f"a good event is a dead letter: {headers['dlq.reason']!r}")
        if place in truth.bad:
            findings.notes["dead_letters_again"] += place in told
            told.add(place)
            if message.value() != _as_dead_letter(truth.bad[place], "dlq.cut" in headers):
                findings.add("divergent", place, "the dead letter is not what was sent")
    for place in truth.bad.keys() - told:
        findings.add("lost", place, "a record that cannot be used is no dead letter")


def _as_dead_letter(value: bytes, is_cut: bool) -> bytes:
    return value[:CUT_BYTES] if is_cut and len(value) > LARGEST_BYTES - CUT_BYTES else value
