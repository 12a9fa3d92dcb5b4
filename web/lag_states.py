"""What the lag page shows as states: brokers, groups, copies of the changelogs; their colours and reasons in words."""

from collections.abc import Iterator
from datetime import datetime

from emis_streams import invalid_records
from emis_streams.lag_report import (
    FollowerLag,
    GroupLag,
    LagReport,
    OpenTransactionLag,
    PartitionLag,
    ReasonParams,
    Severity,
)
from emis_streams.node import Node
from emis_streams.topics import LESSON_SUBJECTS, REPLICA_GROUP, SUBJECTS, app_id
from web.help_topics import BROKERS, CHANGELOGS, FOLLOWER_CATCHES_UP, OF_FOLLOWER, OF_LAG_STATE
from web.i18n import Texts
from web.verdict import Look, PartState

LOOKS: dict[Severity, Look] = {"ok": "ok", "warn": "warn", "error": "bad"}
READ_MODEL = "read-model"
REPLICA = "replica"

_INGESTING = frozenset(app_id(subject.service) for subject in (*SUBJECTS, *LESSON_SUBJECTS))
"""Groups of workers that keep what events say: teacher workers, and services that hear of lessons."""


def ingest_group(report: LagReport) -> GroupLag | None:
    """The group of the ingesting workers."""
    return next((group for group in report.groups if group.group_id in _INGESTING), None)


_OURS = _INGESTING | {REPLICA_GROUP}


def measured(report: LagReport, look: Look) -> Look:
    """The colour of a figure: while the brokers cannot be asked, nothing of the last measurement is called well."""
    return "off" if report.error is not None and look == "ok" else look


def look_of(report: LagReport, judged: PartitionLag | GroupLag) -> Look:
    """The colour of a partition or group; grey where the brokers cannot tell."""
    return "off" if judged.state == "UNKNOWN" else measured(report, LOOKS[judged.severity])


def group_look(report: LagReport, group: GroupLag) -> Look:
    """The colour of a group; one of others is named with its state, and is no concern of this system."""
    return look_of(report, group) if is_ours(group) else "off"


def partition_look(report: LagReport, group: GroupLag, partition: PartitionLag) -> Look:
    """The colour of a group's partition, as that of the group."""
    return look_of(report, partition) if is_ours(group) else "off"


def is_ours(group: GroupLag) -> bool:
    """Whether it belongs to this system; others may read the same topics and stop when they like."""
    return group.group_id in _OURS


def follower_look(follower: FollowerLag) -> Look:
    """As health has it: the database that does not take what is written is a fault, a local copy serves what it has."""
    if follower.waiting_for is not None:
        return "bad" if follower.name == REPLICA else "warn"
    if follower.open_transaction is not None:
        return "bad"
    return "ok" if follower.caught_up else "warn"


def group_topic(group: GroupLag) -> str | None:
    """What to do about it; None if it is well, or of others."""
    is_well = group.state == "OK" or (group.state == "NEVER_COMMITTED" and group.severity == "ok")
    return None if is_well or not is_ours(group) else OF_LAG_STATE[group.state]


def partition_topic(group: GroupLag, partition: PartitionLag) -> str | None:
    """What to do about it; None if it is well, or of others."""
    return None if partition.severity == "ok" or not is_ours(group) else OF_LAG_STATE.get(partition.state)


def group_since(node: Node, group: GroupLag) -> datetime | None:
    """Since when it is not well; None if it is, if it is of others, or if that was not seen."""
    if group.severity == "ok" or not is_ours(group):
        return None
    return node.journal.failing_since("replica" if group.group_id == REPLICA_GROUP else "consumerLag")


def follower_since(node: Node, follower: FollowerLag) -> datetime | None:
    """Since when it waits or catches up; None if it is well, or if that was not seen."""
    if follower_look(follower) == "ok":
        return None
    return node.journal.failing_since("replica" if follower.name == REPLICA else "readModel")


def follower_topic(follower: FollowerLag) -> str | None:
    """What to do about it; None if it is well."""
    if follower.waiting_for is not None:
        return OF_FOLLOWER.get(follower.name, BROKERS)
    if follower.open_transaction is not None:
        return OF_LAG_STATE["OPEN_TRANSACTION"]
    return None if follower.caught_up else FOLLOWER_CATCHES_UP


def lag_states(t: Texts, node: Node, report: LagReport | None) -> Iterator[PartState]:
    """The states of everything on the lag page but its figures."""
    if report is None:
        yield PartState(part="brokers", look="off", name=t("part.brokers"), topic=BROKERS)
        return
    if report.error is not None:
        since = node.journal.failing_since("brokers")
        yield PartState(
            part="brokers", look="bad", name=t("part.brokers"), text=report.error, since=since, topic=BROKERS
        )
    for group in report.groups:
        if is_ours(group):
            yield _group_state(t, node, report, group)
    for follower in report.followers:
        yield _follower_state(t, node, follower)
    yield _changelog_state(t, node)


def _group_state(t: Texts, node: Node, report: LagReport, group: GroupLag) -> PartState:
    check = "replica" if group.group_id == REPLICA_GROUP else "consumerLag"
    name = t("follower.replica") if group.group_id == REPLICA_GROUP else t("verdict.ingestion")
    behind = t("verdict.behind", state=t(f"lagstate.{group.state}"), lag=t.number(group.total_lag))
    return PartState(
        part="group.replica" if group.group_id == REPLICA_GROUP else check,
        look=look_of(report, group),
        name=name,
        text=behind,
        since=group_since(node, group),
        topic=OF_LAG_STATE.get(group.state),
    )


def _follower_state(t: Texts, node: Node, follower: FollowerLag) -> PartState:
    key = f"follower.{follower.name}"
    look = follower_look(follower)
    check = "replica" if follower.name == REPLICA else "readModel"
    return PartState(
        part=check,
        look=look,
        name=t(key) if t.has(key) else follower.name,
        text="" if look == "ok" else _what_follower_waits_for(t, follower),
        since=follower_since(node, follower),
        topic=follower_topic(follower),
    )


def _what_follower_waits_for(t: Texts, follower: FollowerLag) -> str:
    if follower.waiting_for is not None:
        return follower.waiting_for
    return t("followers.catching_up") if follower.open_transaction is None else held(t, follower.open_transaction)


def _changelog_state(t: Texts, node: Node) -> PartState:
    found = node.invalid_records()
    is_recent = invalid_records.is_recent(found, node.now())
    return PartState(
        part="changelogs",
        look="warn" if is_recent else "ok",
        name=t("part.changelogs"),
        text=invalid_records.in_words(found) if is_recent else "",
        since=node.journal.failing_since("changelogs"),
        topic=CHANGELOGS,
    )


def reason(t: Texts, judged: PartitionLag | GroupLag) -> str:
    """Why a partition or group is in its state, a group with the partition and its owner.

    In English where there is no translation.
    """
    text = t.say(f"reason.{judged.reason_key}", judged.reason_params, judged.reason)
    if isinstance(judged, PartitionLag) or judged.reason_partition is None:
        return text
    return at_partition(t, judged.reason_partition, judged.reason_owner, text)


def at_partition(t: Texts, partition: str, owner: str | None, text: str) -> str:
    """A reason with the place where it holds."""
    if owner is None:
        return t("reason.at_nobody", partition=partition, reason=text)
    return t("reason.at", partition=partition, owner=owner, reason=text)


def held(t: Texts, by: OpenTransactionLag) -> str:
    """Which partition an open transaction holds, where and for how long."""
    params: ReasonParams = {"stable": by.stable_offset, "end": by.end_offset, "seconds": by.seconds}
    return f"{by.topic}-{by.partition}: {t.say('reason.open_transaction', params, by.reason)}"


def about_group(t: Texts, group: GroupLag) -> str:
    """What a group is there for."""
    known = {**dict.fromkeys(_INGESTING, "group.ingest"), REPLICA_GROUP: "group.replica"}
    return t(known.get(group.group_id, "group.other"))
