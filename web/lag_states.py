"""What the lag page shows as states: brokers, groups, copies of the changelogs; their colours and reasons in words."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from emis_streams import invalid_records
from emis_streams.lag_report import (
    Alert,
    FollowerLag,
    GroupLag,
    LagReport,
    OpenTransactionLag,
    PartitionLag,
    Severity,
)
from emis_streams.node import Node
from emis_streams.topics import LESSON_SUBJECTS, REPLICA_GROUP, SUBJECTS, app_id
from web.catch_up import is_catching_up
from web.help_topics import (
    BROKERS,
    CHANGELOGS,
    FOLLOWER_CATCHES_UP,
    GROUP_OF_OTHERS,
    OF_FOLLOWER,
    OF_LAG_STATE,
)
from web.i18n import Texts
from web.verdict import Look, PartState

LOOKS: dict[Severity, Look] = {"ok": "ok", "warn": "warn", "error": "bad"}
REASON = "reason."
"""What the keys of reasons in the catalogues begin with."""
READ_MODEL = "read-model"
REPLICA = "replica"

_INGESTING = frozenset(app_id(subject.service) for subject in (*SUBJECTS, *LESSON_SUBJECTS))
"""Groups of workers that keep what events say: teacher workers, and services that hear of lessons."""


def main_group(node: Node, report: LagReport) -> GroupLag | None:
    """The group of the ingesting workers; of a service that answers requests, its own."""
    known = _INGESTING | _own_group(node)
    return next((group for group in report.groups if group.group_id in known), None)


def _own_group(node: Node) -> frozenset[str]:
    return frozenset() if node.service is None else frozenset({app_id(node.service.name)})


def main_parts(node: Node) -> tuple[str, ...]:
    """What is worth a word while it is well: ingestion, where this process shows it."""
    return () if _own_group(node) - _INGESTING else ("consumerLag",)


def measured(report: LagReport, look: Look) -> Look:
    """The colour of a figure: while the brokers cannot be asked, nothing of the last measurement is called well."""
    return "off" if report.error is not None and look == "ok" else look


Judged = PartitionLag | GroupLag


def is_over(node: Node, group: GroupLag, judged: Judged, alert: Alert) -> bool:
    """Whether a figure of a group of ours, or of a partition of it, is over its limit.

    What was there before this process started is worked off first, and is no incident (as in `health_checks`).
    """
    return alert in judged.alerts and is_ours(node, group) and not is_catching_up(group, node.uptime_seconds)


def look_of(node: Node, report: LagReport, group: GroupLag, judged: Judged | None = None) -> Look:
    """The colour of a group, or of a partition of it; grey where the brokers cannot tell.

    A group of others is named with its state, and is no concern of this system.
    """
    judged = judged or group
    if not is_ours(node, group) or judged.state == "UNKNOWN":
        return "off"
    look = LOOKS[judged.severity]
    return measured(report, "warn" if look == "ok" and is_over_any(node, group, judged) else look)


def is_over_any(node: Node, group: GroupLag, judged: Judged) -> bool:
    """Whether it is over one of its limits."""
    return any(is_over(node, group, judged, alert) for alert in judged.alerts)


def state_in_words(t: Texts, node: Node, group: GroupLag, judged: Judged | None = None) -> str:
    """Of a group, or of a partition of it: in the words of its badge."""
    judged = judged or group
    is_over_limit = judged.state == "OK" and is_over_any(node, group, judged)
    return t("lagstate.OVER_LIMIT" if is_over_limit else f"lagstate.{judged.state}")


def is_ours(node: Node, group: GroupLag) -> bool:
    """Whether it belongs to this system; others may read the same topics and stop when they like."""
    return group.group_id in _INGESTING | {REPLICA_GROUP} | _own_group(node)


def follower_look(follower: FollowerLag) -> Look:
    """As health has it: the database that does not take what is written is a fault, a local copy serves what it has."""
    if follower.waiting_for is not None:
        return "bad" if follower.name == REPLICA else "warn"
    if follower.open_transaction is not None:
        return "bad"
    return "ok" if follower.caught_up else "warn"


def topic_of(node: Node, report: LagReport, group: GroupLag, judged: Judged | None = None) -> str | None:
    """What to do about a group, or a partition of it; None if it is well."""
    judged = judged or group
    if not is_ours(node, group):
        return GROUP_OF_OTHERS if judged.severity != "ok" else None
    if judged.severity != "ok":
        return OF_LAG_STATE[judged.state]
    if report.error is not None:
        return BROKERS
    if is_over_any(node, group, judged):
        return OF_LAG_STATE["BEHIND"]
    return OF_LAG_STATE["CATCHING_UP"] if judged.state == "CATCHING_UP" else None


def since_of(node: Node, report: LagReport, group: GroupLag, judged: Judged | None = None) -> datetime | None:
    """Since when a group, or a partition of it, is not well; None if it is, or if that was not seen.

    The journal knows also what was before this process started: of a group, or of brokers that are away.
    """
    judged = judged or group
    if not is_ours(node, group):
        return judged.since
    if judged.severity == "ok":
        if report.error is not None:
            return node.journal.not_well_since("brokers")
        return _noted_since(node, group) if is_over_any(node, group, judged) else None
    noted = _noted_since(node, group) if judged is group else None
    return min((since for since in (noted, judged.since) if since is not None), default=None)


def _noted_since(node: Node, group: GroupLag) -> datetime | None:
    return node.journal.not_well_since("replica" if group.group_id == REPLICA_GROUP else "consumerLag")


def follower_since(node: Node, follower: FollowerLag) -> datetime | None:
    """Since when it waits or catches up; None if it is well, or if that was not seen."""
    if follower_look(follower) == "ok":
        return None
    return node.journal.not_well_since("replica" if follower.name == REPLICA else "readModel")


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
        yield PartState(part="brokers", look="off", name=t("part.brokers"), since=node.started_at, topic=BROKERS)
        return
    if report.error is not None:
        since = node.journal.not_well_since("brokers")
        text = t.say(f"brokers.{report.error_key}_alone", report.error_params, report.error)
        yield PartState(part="brokers", look="bad", name=t("part.brokers"), text=text, since=since, topic=BROKERS)
    for group in report.groups:
        if is_ours(node, group):
            yield _group_state(t, node, report, group)
    for follower in report.followers:
        yield _follower_state(t, node, follower)
    yield _changelog_state(t, node)
    if report.open_transactions and not any(follower.open_transaction for follower in report.followers):
        yield _held_state(t, node, report.open_transactions[0])


def _group_state(t: Texts, node: Node, report: LagReport, group: GroupLag) -> PartState:
    check = "replica" if group.group_id == REPLICA_GROUP else "consumerLag"
    name = "verdict.ingestion" if group.group_id in _INGESTING else "verdict.requests"
    behind = t("verdict.behind", state=state_in_words(t, node, group), lag=t.number(group.total_lag))
    return PartState(
        part="group.replica" if group.group_id == REPLICA_GROUP else check,
        look=look_of(node, report, group),
        name=t("follower.replica" if group.group_id == REPLICA_GROUP else name),
        text=behind,
        since=since_of(node, report, group),
        topic=topic_of(node, report, group),
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
        since=node.journal.not_well_since("changelogs"),
        topic=CHANGELOGS,
    )


def _held_state(t: Texts, node: Node, found: OpenTransactionLag) -> PartState:
    """Of the changelogs, where no follower of this process is held: those of other workers are."""
    return PartState(
        part="changelogs",
        look="bad",
        name=t("part.changelogs"),
        text=held(t, found),
        since=held_since(node, found),
        topic=OF_LAG_STATE["OPEN_TRANSACTION"],
    )


def reason(t: Texts, judged: PartitionLag | GroupLag) -> str:
    """Why a partition or group is in its state, a group with the partition and its owner.

    In English where there is no translation.
    """
    text = t.say(f"{REASON}{judged.reason_key}", judged.reason_params, judged.reason)
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
    return f"{by.topic}-{by.partition}: {t.say('reason.open_transaction', by.reason_params, by.reason)}"


def held_since(node: Node, by: OpenTransactionLag) -> datetime:
    """Since when at the latest an open transaction holds a partition."""
    return node.now() - timedelta(seconds=round(by.seconds))


def about_group(t: Texts, node: Node, group: GroupLag) -> str:
    """What a group is there for."""
    known = {
        **dict.fromkeys(_own_group(node), "group.requests"),
        **dict.fromkeys(_INGESTING, "group.ingest"),
        REPLICA_GROUP: "group.replica",
    }
    return t(known.get(group.group_id, "group.other"))
