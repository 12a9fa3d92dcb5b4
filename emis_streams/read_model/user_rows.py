"""The local copies of progress and activity, and what they answer about a user: pages, the newest rows first."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Generic, NamedTuple, TypeVar

import msgspec

from emis_streams import rows
from emis_streams.read_model.keys import (
    ACTIVITY_BY_TIME,
    ACTIVITY_ROW,
    ID_BYTES,
    PROGRESS_BY_TIME,
    PROGRESS_ROW,
    TIME_BYTES,
    time_key,
)
from emis_streams.read_model.local_copy import LocalCopy, range_of, synced_at
from emis_streams.rows import ActivityRow, ProgressRow

DEFAULT_LIMIT, MOST_LIMIT = 50, 100

Row = TypeVar("Row")


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


class Page(NamedTuple, Generic[Row]):
    """Some of a user's rows, the newest first."""

    rows: tuple[Row, ...]
    next_after: str | None
    """Ask for what comes after this one; None at the end."""


class NoSuchRow(LookupError):
    """The user has no row of this id, so no page begins after it."""


class UserRows(LocalCopy):
    """Answers about one user. Reads are synchronous: some µs for each row of the page, however many rows there are."""

    def lessons(self, user_id: str, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[UserLesson]:
        """Empty for a user without lessons. Raises NoSuchRow if `after` is no lesson of the user."""
        ids, next_after = self._page(PROGRESS_ROW, PROGRESS_BY_TIME, user_id, limit, after)
        found = []
        for lesson_id, kept in self._rows(PROGRESS_ROW, user_id, ids):
            body = rows.body_of(kept[TIME_BYTES:], ProgressRow)
            if body is not None:
                at = rows.created_at(kept[TIME_BYTES:])
                found.append(UserLesson(lesson_id, body.title, "available", at, synced_at(kept)))
        return Page(tuple(found), next_after)

    def activities(self, user_id: str, limit: int = DEFAULT_LIMIT, after: str | None = None) -> Page[Activity]:
        """Empty for a user without activity. Raises NoSuchRow if `after` is no activity of the user."""
        ids, next_after = self._page(ACTIVITY_ROW, ACTIVITY_BY_TIME, user_id, limit, after)
        found = []
        for id_, kept in self._rows(ACTIVITY_ROW, user_id, ids):
            body = rows.body_of(kept[TIME_BYTES:], ActivityRow)
            if body is not None:
                at = rows.event_time(kept[TIME_BYTES:])
                found.append(Activity(id_, "lesson-created", body.lesson_id, body.title, at, synced_at(kept)))
        return Page(tuple(found), next_after)

    def _page(
        self, prefix: bytes, by_time: bytes, user_id: str, limit: int, after: str | None
    ) -> tuple[list[str], str | None]:
        """Ids of a page's rows, found by seek in the index by time; and the last one, if others come after it."""
        first, end = range_of(by_time + user_id.encode())
        if after is not None:
            end = self._entry(prefix, user_id, after)
        entries = islice(self.scan_keys_backwards(first, end), limit + 1)
        ids = [entry[-ID_BYTES:].decode() for entry in entries]
        return ids[:limit], ids[limit - 1] if len(ids) > limit else None

    def _entry(self, prefix: bytes, user_id: str, id_: str) -> bytes:
        """The index entry of a row."""
        key = f"{user_id}|{id_}".encode()
        kept = self._get(prefix + key)
        if kept is None or rows.is_deleted(kept[TIME_BYTES:]):
            raise NoSuchRow(id_)
        return time_key(prefix, key, kept[TIME_BYTES:])

    def _rows(self, prefix: bytes, user_id: str, ids: list[str]) -> Iterator[tuple[str, bytes]]:
        values = self.get_many([prefix + f"{user_id}|{id_}".encode() for id_ in ids])
        return ((id_, kept) for id_, kept in zip(ids, values, strict=True) if kept is not None)
