"""Asks a worker over HTTP, as a user would, whether its pages show something."""

import http.client
import json
import re
from dataclasses import dataclass
from typing import Any

from emis_streams.topics import APP_ID, REPLICA_GROUP

OK = 200
_TIMEOUT_SECONDS = 5.0
_TEACHER_LINK = re.compile(r"/teachers/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True)
class Answer:
    status: int
    body: str


def ask(host: str, port: int, path: str, accept: str = "application/json") -> Answer | None:
    """GET; None while nothing answers there."""
    connection = http.client.HTTPConnection(host, port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": accept})
        response = connection.getresponse()
        return Answer(response.status, response.read().decode(errors="replace"))
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def is_ready(host: str, port: int) -> bool:
    """Whether /readyz says so."""
    answer = ask(host, port, "/readyz")
    return answer is not None and answer.status == 200


def is_level(host: str, port: int) -> bool:
    """Whether tables, local copy and database have what the topics have, but for seconds."""
    lag = ask(host, port, "/api/consumer-lag?history=false")
    return lag is not None and lag.status == OK and lag_is_level(json.loads(lag.body))


def health_in_words(host: str, port: int) -> str:
    """What `/health` says: `healthy`, or what is not, by the names of its checks."""
    answer = ask(host, port, "/health")
    if answer is None:
        return "no answer from /health"
    report = json.loads(answer.body)
    troubled = [name for name, check in report["checks"].items() if check["status"] != "pass"]
    status: str = report["status"]
    return status if not troubled else f"{status} ({', '.join(troubled)})"


def lag_is_level(report: dict[str, Any]) -> bool:
    """Of `/api/consumer-lag`: all groups of ours and all followers of the worker.

    A state alone does not say so: records that were written a moment ago are not late yet, however many they are.
    """
    groups = [group for group in report["groups"] if group["groupId"] in (APP_ID, REPLICA_GROUP)]
    followers = report["followers"]
    most_seconds, most_records = (report["thresholds"][name] for name in ("staleAfterSeconds", "lagMessages"))
    return (
        len(groups) == len({APP_ID, REPLICA_GROUP})
        and all(group["severity"] == "ok" and group["state"] != "CATCHING_UP" for group in groups)
        and all(follower["caughtUp"] and (follower["delaySeconds"] or 0.0) <= most_seconds for follower in followers)
        and all(one["totalLag"] <= most_records for one in (*groups, *followers))
    )


def teacher_to_show(host: str, port: int) -> str | None:
    """Id of a teacher linked from the overview whose page has classes, all of them known; None if none yet."""
    overview = ask(host, port, "/", accept="text/html")
    if overview is None or overview.status != 200:
        return None
    linked = dict.fromkeys(_TEACHER_LINK.findall(overview.body))
    return next((teacher_id for teacher_id in linked if _shows_classes(host, port, teacher_id)), None)


def _shows_classes(host: str, port: int, teacher_id: str) -> bool:
    answer = ask(host, port, f"/api/teachers/{teacher_id}")
    return answer is not None and answer.status == 200 and shows_classes(json.loads(answer.body))


def shows_classes(teacher: dict[str, Any]) -> bool:
    """Whether a teacher's answer has at least one class with data, and none that is still unknown."""
    entries = teacher["classAssignments"]
    return any(e["known"] and not e["deleted"] for e in entries) and all(e["known"] for e in entries)
