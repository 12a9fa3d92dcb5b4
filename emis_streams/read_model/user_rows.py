"""The local copies of progress and activity, and what they answer about a user.

g<userId>|<lessonId>  progress row        y<userId>|<eventId>  activity row
"""

from datetime import datetime

import msgspec

from emis_streams import rows
from emis_streams.read_model.local_copy import TIME_BYTES, LocalCopy, synced_at
from emis_streams.rows import ActivityRow, ProgressRow

PROGRESS_ROW, ACTIVITY_ROW = b"g", b"y"


class UserLesson(msgspec.Struct, frozen=True, rename="camel"):
    """A lesson that a user has."""

    lesson_id: str
    title: str
    status: str
    """So far always `available`."""
    available_at: datetime
    last_synced_at: datetime


class Activity(msgspec.Struct, frozen=True, rename="camel"):
    """Something that a user did."""

    activity_id: str
    type: str
    lesson_id: str
    title: str
    timestamp: datetime
    last_synced_at: datetime


class UserRows(LocalCopy):
    """Answers about one user. Reads are synchronous: some µs for each row."""

    def lessons(self, user_id: str) -> list[UserLesson]:
        """The newest first; empty for a user that nobody has heard of."""
        found = []
        for key, kept in self._scan(PROGRESS_ROW + user_id.encode()):
            row = kept[TIME_BYTES:]
            body = rows.body_of(row, ProgressRow)
            if body is not None:
                at = rows.created_at(row)
                found.append(UserLesson(_after_bar(key), body.title, "available", at, synced_at(kept)))
        return sorted(found, key=lambda lesson: (lesson.available_at, lesson.lesson_id), reverse=True)

    def activities(self, user_id: str) -> list[Activity]:
        """The newest first; empty for a user that nobody has heard of."""
        found = []
        for key, kept in self._scan(ACTIVITY_ROW + user_id.encode()):
            row = kept[TIME_BYTES:]
            body = rows.body_of(row, ActivityRow)
            if body is not None:
                done = rows.event_time(row)
                found.append(
                    Activity(_after_bar(key), "lesson-created", body.lesson_id, body.title, done, synced_at(kept))
                )
        return sorted(found, key=lambda activity: (activity.timestamp, activity.activity_id), reverse=True)


def _after_bar(key: bytes) -> str:
    return key.rpartition(b"|")[2].decode()
