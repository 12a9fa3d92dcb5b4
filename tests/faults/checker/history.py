"""What was sent and what was read, as the two processes wrote it down, and what must hold between them."""

import json
import math
import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.faults.checker.findings import Findings
from tests.faults.checker.truth import Place, Truth, Version

SLACK_SECONDS = 1.0
"""Between the last measurement that an age rests on and the answer that tells it."""
GOOD = (200, 404, 410)


@dataclass(frozen=True)
class Send:
    topic: str
    key: str
    row_key: str
    version: Version
    bad: bool
    sent: float
    acked: float | None
    partition: int | None
    offset: int | None


@dataclass(frozen=True)
class Read:
    worker: str
    kind: str
    key: str
    due: float
    asked: float
    took: float
    status: int
    version: Version | None
    """Of a class, also of a deleted one (without its event id)."""
    stale: bool | None
    entries: tuple[tuple[str | None, str, str | None], ...]

    @property
    def ended(self) -> float:
        return self.due + self.took


def sends(path: Path) -> list[Send]:
    return [
        Send(
            line["topic"],
            line["key"],
            line["row_key"],
            (line["us"], line["rank"], line["event_id"]),
            line["bad"],
            line["sent"],
            line["acked"],
            line["partition"],
            line["offset"],
        )
        for line in _lines(path)
    ]


def reads(path: Path) -> list[Read]:
    return [
        Read(
            line["worker"],
            line["kind"],
            line["key"],
            line["due"],
            line["asked"],
            line["took"],
            line["status"],
            _version(line),
            line.get("stale"),
            tuple(tuple(entry) for entry in line.get("entries") or ()),
        )
        for line in _lines(path)
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _version(line: dict[str, Any]) -> Version | None:
    if line.get("version"):
        raw = bytes.fromhex(line["version"])
        return int.from_bytes(raw[:8], "big"), raw[8], str(uuid.UUID(bytes=raw[9:25]))
    if line.get("deletedAt"):
        deleted = datetime.fromisoformat(line["deletedAt"])
        return (deleted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), 2, ""
    return None


# -- what must hold -------------------------------------------------------------------------------


def check_sends(sent: Iterable[Send], truth: Truth, findings: Findings) -> None:
    """What the brokers acknowledged is where they said: else Kafka lost it, not we."""
    for one in sent:
        if one.acked is None or one.offset is None or one.offset < 0 or one.partition is None:
            findings.notes["sends_unknown"] += 1
            continue
        place = Place(one.topic, one.partition, one.offset)
        if not truth.holds(place, "" if one.bad else one.version[2]):
            findings.add("lost", place, "an acknowledged event is not in the log where the brokers said")


def check_reads(
    read: Sequence[Read], sent: Sequence[Send], truth: Truth, limit_seconds: float, findings: Findings
) -> None:
    """`limit_seconds`: what is older than that has to be told as stale."""
    acked: dict[str, list[tuple[float, Version]]] = defaultdict(list)
    for one in sent:
        known = truth.versions.get(("classes", one.key), ())
        if one.acked is not None and one.topic.startswith("emis.class.") and one.version in known:
            acked[one.key].append((one.acked, one.version))
    for told, floor in zip(read, _floors(read), strict=True):
        if told.status not in GOOD:
            continue
        _check_explained(told, truth, findings)
        if told.kind != "classes" or told.stale:
            continue
        thing = (told.worker, told.key, told.asked)
        if floor is not None and _is_before(told.version, floor):
            findings.add("reorder", thing, f"read {told.version} after {floor}")
        missed = [v for at, v in acked[told.key] if at < told.asked - limit_seconds - SLACK_SECONDS]
        if missed and _is_before(told.version, max(missed)):
            findings.add("unflagged_stale", thing, f"read {told.version}, not {max(missed)}")


def _is_before(version: Version | None, other: Version) -> bool:
    """A deleted class does not say its event id: it is compared without."""
    return version is None or (version[:2] < other[:2] if version[2] == "" or other[2] == "" else version < other)


def _floors(read: Sequence[Read]) -> list[Version | None]:
    """For each read the highest version that the same worker had told before the read was asked."""
    moments = [(r.asked, 1, n) for n, r in enumerate(read)] + [(r.ended, 0, n) for n, r in enumerate(read)]
    told: dict[tuple[str, str], Version] = {}
    floors: list[Version | None] = [None] * len(read)
    for _, is_asked, n in sorted(moments):
        one = read[n]
        at = (one.worker, one.key)
        if is_asked:
            floors[n] = told.get(at)
        elif one.status in GOOD and one.version is not None:
            told[at] = max(told.get(at, one.version), one.version)
    return floors


def _check_explained(one: Read, truth: Truth, findings: Findings) -> None:
    if one.kind == "classes" and one.version is not None:
        versions = truth.versions.get(("classes", one.key), set())
        if one.version not in versions and not any(v[:2] == one.version[:2] for v in versions if one.version[2] == ""):
            findings.add("phantom", (one.worker, one.key, one.asked), f"read {one.version}, which was never sent")
    shown = [(assignment, class_id) for assignment, class_id, _ in one.entries]
    if len(set(shown)) < len(shown):
        findings.add("dup_effect", (one.worker, one.key, one.asked), "the same class is on the page twice")
    for _, class_id, name in one.entries:
        if name is not None and name not in truth.names.get(class_id, set()):
            findings.add("phantom", (one.worker, one.key, one.asked), f"class name {name!r} was never sent")


# -- figures --------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)] if ordered else None


def recovery_seconds(read: Iterable[Read], sent: Sequence[Send], since: float) -> float | None:
    """Until of every partition something was read that was sent after `since`; None: never, of some partition.

    Of partitions that got useful events at any time: with nothing but useless ones there is nothing to read.
    """
    fresh = {
        (one.row_key, one.version[:2]): one.partition
        for one in sent
        if one.topic.startswith("emis.class.") and one.sent >= since and one.acked is not None and not one.bad
    }
    good = [one for one in sent if one.topic.startswith("emis.class.") and not one.bad]
    missing = {one.partition for one in good if one.partition is not None}
    if not missing:
        return 0.0
    for one in sorted(read, key=lambda r: r.ended):
        if one.kind == "classes" and one.version is not None:
            missing.discard(fresh.get((one.key, one.version[:2])))
            if not missing:
                return one.ended - since
    return None
