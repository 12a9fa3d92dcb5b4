"""Lessons: what is kept of them, what the service answers, and the events that tell of a new one."""

import unicodedata
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID, uuid4

import msgspec
from msgspec import Meta
from sqlalchemy import Column, Index, MetaData, String, Table, Text, and_, insert, or_, select

from emis_streams.columns import ID, OPTIONS, TIME
from emis_streams.names import is_visible
from emis_streams.services.database import Event, Transaction
from emis_streams.services.errors import Refused
from emis_streams.services.messages import Request
from emis_streams.services.service import Service, answers
from emis_streams.topics import LESSON_AVAILABLE, USER_ACTIVITY

CREATE, GET, LIST = "create-lesson", "get-lesson", "get-lessons"
"""Patterns."""

TITLE_CHARACTERS, DESCRIPTION_CHARACTERS = 200, 5_000
MOST_LISTED = 100

tables = MetaData()
lessons = Table(
    "Lessons",
    tables,
    Column("LessonId", ID, primary_key=True),
    Column("Title", String(TITLE_CHARACTERS), nullable=False),
    Column("UserId", ID, nullable=False),
    Column("Description", Text),
    Column("CreatedAt", TIME, nullable=False),
    Index("LessonsInOrder", "CreatedAt", "LessonId"),
    **OPTIONS,
)

_encode = msgspec.json.Encoder().encode


class NewLesson(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    title: Annotated[str, Meta(max_length=TITLE_CHARACTERS, pattern=r"\S")]
    user_id: UUID
    """Of whom it is; nobody asks whether there is such a user."""
    description: Annotated[str, Meta(max_length=DESCRIPTION_CHARACTERS)] | None = None


class WhichLesson(msgspec.Struct, frozen=True, rename="camel"):
    lesson_id: UUID


class WhichLessons(msgspec.Struct, frozen=True, rename="camel"):
    """The newest first."""

    limit: Annotated[int, Meta(ge=1, le=MOST_LISTED)] = 50
    after: UUID | None = None
    """The last lesson of the page before."""


class Lesson(msgspec.Struct, frozen=True, rename="camel"):
    lesson_id: UUID
    title: str
    user_id: UUID
    description: str | None
    created_at: datetime


class Lessons(msgspec.Struct, frozen=True, rename="camel"):
    lessons: list[Lesson]
    next_after: UUID | None
    """Ask for what comes after this one; null at the end."""


class LessonEvent(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Of both topics; eventType is the topic's name."""

    event_id: UUID
    event_type: str
    timestamp: datetime
    user_id: UUID
    lesson_id: UUID
    title: str


class LessonService(Service):
    """Answers requests from its database, and tells of new lessons."""

    name = "lessons"
    port = 8002
    tables = tables
    asks = False

    @answers(CREATE, NewLesson)
    async def create_lesson(self, asked: NewLesson, request: Request) -> Any:
        """The lesson, kept with its events; the same one when the request comes again."""

        title = _normalised(asked.title)

        async def keep(transaction: Transaction) -> Any:
            lesson = Lesson(uuid4(), title, asked.user_id, asked.description, self.clock.now())
            await transaction.execute(insert(lessons).values(_row_of(lesson)))
            for topic in (LESSON_AVAILABLE, USER_ACTIVITY):
                await transaction.emit(_event(topic, lesson))
            return lesson

        return await self.own_database.once(request, keep)

    @answers(GET, WhichLesson)
    async def get_lesson(self, asked: WhichLesson, _request: Request) -> Lesson:
        """Raises Refused (not-found)."""
        query = select(lessons).where(lessons.c.LessonId == str(asked.lesson_id))
        async with self.own_database.reading("reading a lesson") as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise Refused("not-found", f"there is no lesson {asked.lesson_id}")
        return _lesson_of(row)

    @answers(LIST, WhichLessons)
    async def get_lessons(self, asked: WhichLessons, request: Request) -> Lessons:
        """A page of them. Raises Refused (not-found) if `after` is none."""
        order = lessons.c.CreatedAt.desc(), lessons.c.LessonId.desc()
        query = select(lessons).order_by(*order).limit(asked.limit + 1)
        if asked.after is not None:
            query = query.where(_comes_after(await self.get_lesson(WhichLesson(asked.after), request)))
        async with self.own_database.reading("reading lessons") as connection:
            rows = (await connection.execute(query)).all()
        found = [_lesson_of(row) for row in rows[: asked.limit]]
        return Lessons(found, found[-1].lesson_id if len(rows) > asked.limit else None)


def _normalised(title: str) -> str:
    """As the contract of events has texts. Raises Refused: what they would refuse must not be kept here."""
    found = unicodedata.normalize("NFC", title)
    if len(found) > TITLE_CHARACTERS:
        raise Refused("invalid", f"title: {len(found)} characters after normalising to NFC, {TITLE_CHARACTERS} at most")
    if not is_visible(found):
        raise Refused("invalid", f"title: {found!a} has no character that can be seen")
    return found


def _comes_after(last: Lesson) -> Any:
    created, id_ = last.created_at.replace(tzinfo=None), str(last.lesson_id)
    return or_(lessons.c.CreatedAt < created, and_(lessons.c.CreatedAt == created, lessons.c.LessonId < id_))


def _event(topic: str, lesson: Lesson) -> Event:
    told = LessonEvent(
        event_id=uuid4(),
        event_type=topic,
        timestamp=lesson.created_at,
        user_id=lesson.user_id,
        lesson_id=lesson.lesson_id,
        title=lesson.title,
    )
    return Event(topic, str(lesson.user_id), _encode(told))


def _row_of(lesson: Lesson) -> dict[str, Any]:
    return {
        "LessonId": str(lesson.lesson_id),
        "Title": lesson.title,
        "UserId": str(lesson.user_id),
        "Description": lesson.description,
        "CreatedAt": lesson.created_at.replace(tzinfo=None),
    }


def _lesson_of(row: Any) -> Lesson:
    created = row.CreatedAt.replace(tzinfo=UTC)
    return Lesson(UUID(row.LessonId), row.Title, UUID(row.UserId), row.Description, created)
