"""What was sent and what was read, as the two processes wrote it down, and what must hold between them."""

import json
import math
import uuid
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.checker.findings import Findings
from tests.faults.checker.truth import Place, Truth, Version
from tests.integration.independent import NO_ORDER, SOURCES, Key, order_in

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

    @property
    def place(self) -> Place | None:
        """Where the brokers said that it is; None if they did not."""
        if self.partition is None or self.offset is None or self.offset < 0:
            return None
        return Place(self.topic, self.partition, self.offset)


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
    """Of a class; of what is deleted as well. Its event id is "" where the answer does not say it."""
    stale: bool | None
    entries: tuple[tuple[str | None, str, str | None], ...]
    name: str | None = None
    """Of the class or of the teacher, as shown."""
    source: str | None = None

    @property
    def ended(self) -> float:
        return self.due + self.took


def sends(path: Path) -> list[Send]:
    return [
        Send(
            line["topic"],
            line["key"],
            line["row_key"],
            (line["us"], line["rank"], _order(line), line["event_id"]),
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
            line.get("name"),
            line.get("source"),
        )
        for line in _lines(path)
    ]


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines: whoever writes them may be at work."""
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.split("\n") if line]


def _order(line: dict[str, Any]) -> int:
    """The place in the log that a sent event got."""
    offset = line["offset"]
    return NO_ORDER if offset is None or line["topic"].endswith(".deleted") else int(offset)


def _version(line: dict[str, Any]) -> Version | None:
    """The last release takes the place in the log for an event id, so that the real one is not known."""
    if line.get("deletedAt"):
        deleted = datetime.fromisoformat(line["deletedAt"])
        return (deleted - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1), 2, NO_ORDER, ""
    if line.get("version"):
        raw, event_id = bytes.fromhex(line["version"]), line["eventId"]
        order = order_in(raw, "")
        of_last_release = order != NO_ORDER and event_id == str(uuid.UUID(bytes=raw[9:25]))
        return int.from_bytes(raw[:8], "big"), raw[8], order, "" if of_last_release else event_id
    return None


# -- what must hold -------------------------------------------------------------------------------


def check_sends(sent: Iterable[Send], truth: Truth, findings: Findings) -> None:
    """What the brokers acknowledged is where they said: else Kafka lost it, not we."""
    for one in sent:
        place = one.place
        if one.acked is None or place is None:
            findings.notes["sends_unknown"] += 1
            continue
        if not truth.holds(place, "" if one.bad else one.version[3]):
            findings.add("lost", place, "an acknowledged event is not in the log where the brokers said")


def check_reads(
    read: Sequence[Read], sent: Sequence[Send], truth: Truth, limit_seconds: float, findings: Findings
) -> None:
    """What was never sent, goes back, or is old and does not say so, of whatever an answer shows.

    A teacher's answer shows the teacher and the classes. `limit_seconds`: what is older has to be told as
    stale. An answer that is told as stale may be old, but not older than one before it from the same source;
    that a known thing is not known at all is never right.
    """
    acked = _acknowledged(sent, truth)
    shown = [_shown(one, truth) for one in read]
    for one, seen, floors in zip(read, shown, _floors(read, shown), strict=True):
        if one.status not in GOOD:
            continue
        _check_explained(one, truth, findings)
        for key, span in seen.items():
            thing = (one.worker, key, one.asked)
            floor, version = floors.get(key), None if span is None else span.highest
            if floor is not None and _is_before(version, floor):
                kind = "lost" if version is None else "reorder"
                findings.add(kind, thing, f"read {version} after {floor}")
            missed = acked[key].before(one.asked - limit_seconds - SLACK_SECONDS)
            if missed is not None and truth.with_last_release:
                missed = (*missed[:2], NO_ORDER, "")  # Which of the events of that time it shows, no rule says.
            if not one.stale and missed is not None and _is_before(version, missed):
                findings.add("unflagged_stale", thing, f"read {version}, not {missed}")


class Span(NamedTuple):
    """What an answer shows: one version, or one of several that look the same."""

    lowest: Version
    highest: Version


@dataclass
class Acknowledged:
    """Of one key: the highest version that was acknowledged until then, at each time when it changed."""

    times: list[float] = field(default_factory=list)
    highest: list[Version] = field(default_factory=list)

    def before(self, at: float) -> Version | None:
        n = bisect_left(self.times, at)
        return self.highest[n - 1] if n else None


def _acknowledged(sent: Iterable[Send], truth: Truth) -> dict[Key, Acknowledged]:
    """By key, of those that are in the truth."""
    acked: dict[Key, Acknowledged] = defaultdict(Acknowledged)
    for one in sorted((one for one in sent if one.acked is not None), key=lambda s: s.acked or 0.0):
        key = (SOURCES[one.topic][0], one.row_key)
        if one.version in truth.versions.get(key, ()):
            own = acked[key]
            own.times.append(one.acked or 0.0)
            own.highest.append(max(one.version, own.highest[-1]) if own.highest else one.version)
    return acked


def _shown(one: Read, truth: Truth) -> dict[Key, Span | None]:
    """The version of each thing that an answer shows; None: it says that there is no such thing."""
    if one.status not in GOOD:
        return {}
    own = (one.kind, one.key)
    if one.status == 404 or one.version is not None:
        seen: dict[Key, Span | None] = {own: None if one.version is None else Span(one.version, one.version)}
    else:
        seen = _of_name(own, one.name, truth)
    for _, class_id, name in one.entries:
        seen |= _of_name(("classes", class_id), name, truth)
    return seen


def _of_name(key: Key, name: str | None, truth: Truth) -> dict[Key, Span | None]:
    """Every event gives another name, so a name tells which one is shown; not which of its places in the log."""
    versions = truth.named.get(key, {}).get(name or "")
    return {key: Span(min(versions), max(versions))} if versions else {}


def _is_before(version: Version | None, other: Version) -> bool:
    """Where an event id is not known, a delete's or one of the last release, it is compared without."""
    if version is None:
        return True
    if "" not in (version[3], other[3]):
        return version < other
    known = 3 if NO_ORDER not in (version[2], other[2]) else 2
    return version[:known] < other[:known]


def _floors(read: Sequence[Read], shown: Sequence[Mapping[Key, Span | None]]) -> list[dict[Key, Version]]:
    """For each read the highest versions that the same worker had told before the read was asked."""
    moments = [(r.asked, 1, n) for n, r in enumerate(read)] + [(r.ended, 0, n) for n, r in enumerate(read)]
    told: dict[object, Version] = {}
    floors: list[dict[Key, Version]] = [{} for _ in read]
    for _, is_asked, n in sorted(moments):
        one = read[n]
        of_source = one.source if one.stale and one.status != 404 else "any"
        for key, span in shown[n].items():
            if is_asked and (floor := told.get((one.worker, of_source, key))) is not None:
                floors[n][key] = floor
            elif not is_asked and span is not None:
                for source in (one.source, "any"):
                    at = (one.worker, source, key)
                    told[at] = max(told.get(at, span.lowest), span.lowest)
    return floors


def _check_explained(one: Read, truth: Truth, findings: Findings) -> None:
    key, thing = (one.kind, one.key), (one.worker, one.key, one.asked)
    versions, named = truth.versions.get(key, set()), truth.named.get(key, {})
    if one.version is not None and not _is_one_of(one.version, versions):
        findings.add("phantom", thing, f"read {one.version}, which was never sent")
    elif one.name is not None and one.name not in named:
        findings.add("phantom", thing, f"name {one.name!r} was never sent")
    elif one.name is not None and one.version is not None and not _is_one_of(one.version, named[one.name]):
        findings.add("divergent", thing, f"name {one.name!r} is of {named[one.name]}, shown with {one.version}")
    shown = [(assignment, class_id) for assignment, class_id, _ in one.entries]
    if len(set(shown)) < len(shown):
        findings.add("dup_effect", thing, "the same class is on the page twice")
    for _, class_id, name in one.entries:
        if name is not None and name not in truth.named.get(("classes", class_id), {}):
            findings.add("phantom", thing, f"class name {name!r} was never sent")


def _is_one_of(version: Version, versions: Collection[Version]) -> bool:
    return version in versions or (version[3] == "" and any(v[:3] == version[:3] for v in versions))


# -- figures --------------------------------------------------------------------------------------


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)] if ordered else None


def recovery_seconds(read: Iterable[Read], sent: Sequence[Send], since: float) -> float | None:
    """Until of every partition something was read that was acknowledged after `since`; None: never, of some.

    Of partitions that got useful events at any time: with nothing but useless ones there is nothing to read.
    """
    fresh = {
        (one.row_key, one.version[:2]): one.partition
        for one in sent
        if one.topic.startswith("emis.class.") and one.acked is not None and one.acked >= since and not one.bad
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
