"""The lesson service's answers, from SQLite and from MariaDB."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID, uuid4

import msgspec
import pytest

from emis_streams.events import CONTRACTS, decode
from emis_streams.services import messages
from emis_streams.services.errors import Refused
from emis_streams.services.lessons import (
    Lesson,
    LessonEvent,
    LessonService,
    NewLesson,
    WhichLesson,
    WhichLessons,
)
from emis_streams.services.messages import Request
from emis_streams.settings import Settings
from emis_streams.topics import LESSON_AVAILABLE, USER_ACTIVITY
from tests.integration.service_rig import no_dead_letter

USER = UUID("00000000-0000-4000-8000-000000000001")


@pytest.fixture(params=["sqlite", "mariadb"])
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LessonService]:
    is_sqlite = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'lessons.db'}" if is_sqlite else request.getfixturevalue("mariadb_url")
    own = LessonService(Settings(service_database_url=url), no_dead_letter)
    await own.own_database.prepare()
    yield own
    await own.clean_up_resources()


def request_for(new: NewLesson, key: str | None = None) -> Request:
    return Request("create-lesson", key or str(uuid4()), messages.value_of(new))


async def created(service: LessonService, title: str = "Phân số", key: str | None = None) -> Lesson:
    new = NewLesson(title, USER, "Cộng và trừ 🙂")
    return msgspec.convert(msgspec.to_builtins(await service.create_lesson(new, request_for(new, key))), Lesson)


async def got(service: LessonService, lesson_id: UUID) -> Lesson:
    return await service.get_lesson(WhichLesson(lesson_id), Request("get-lesson", "k", b""))


async def page(service: LessonService, limit: int, after: UUID | None) -> tuple[list[str], UUID | None]:
    found = await service.get_lessons(WhichLessons(limit, after), Request("get-lessons", "k", b""))
    return [lesson.title for lesson in found.lessons], found.next_after


async def test_a_lesson_is_found_as_it_was_created(service: LessonService) -> None:
    lesson = await created(service)
    assert (lesson.title, lesson.user_id, lesson.description) == ("Phân số", USER, "Cộng và trừ 🙂")
    assert await got(service, lesson.lesson_id) == lesson


async def test_a_lesson_that_is_not_there_is_refused_by_name(service: LessonService) -> None:
    nobody = uuid4()
    with pytest.raises(Refused, match=str(nobody)) as told:
        await got(service, nobody)
    assert told.value.kind == "not-found"


async def test_a_request_that_comes_again_creates_nothing_and_gets_the_same_lesson(
    service: LessonService,
) -> None:
    first, again = await created(service, key="k"), await created(service, key="k")
    assert first == again
    assert (await page(service, 10, None))[0] == ["Phân số"]
    assert len(await service.own_database.outbox.events(10)) == 2


async def test_each_lesson_is_told_to_progress_and_to_users(service: LessonService) -> None:
    lesson = await created(service)
    events = [pending.event for pending in await service.own_database.outbox.events(10)]
    assert [(event.topic, event.key) for event in events] == [
        (LESSON_AVAILABLE, str(USER)),
        (USER_ACTIVITY, str(USER)),
    ]
    for event in events:
        told = msgspec.json.decode(event.value, type=LessonEvent)
        assert (told.event_type, told.lesson_id, told.timestamp) == (event.topic, lesson.lesson_id, lesson.created_at)


@pytest.mark.parametrize("title", ["Phân số", "e\u0301" * 100, "\u0958" * 66, "x" * 200])
async def test_what_is_told_of_a_lesson_is_as_its_contract_says(service: LessonService, title: str) -> None:
    await created(service, title)
    for _, _, event in await service.own_database.outbox.events(10):
        now_ms = time.time_ns() // 1_000_000
        told = decode(CONTRACTS[event.topic], [event.key.encode()], [event.value], [now_ms])
        assert (len(told.keys), told.refused, told.unknown_fields) == (1, [], 0)


async def test_a_title_that_would_be_too_long_in_the_events_is_refused(service: LessonService) -> None:
    with pytest.raises(Refused, match="300 characters after normalising"):
        await created(service, "\u0958" * 150)
    assert await page(service, 10, None) == ([], None)


@pytest.mark.parametrize("title", ["\u200b", "\u00a0 \u2800", "\u3164"])
async def test_a_title_that_nobody_sees_is_refused(service: LessonService, title: str) -> None:
    with pytest.raises(Refused, match=r"title: .* has no character that can be seen"):
        await created(service, title)


async def test_lessons_are_listed_page_by_page_the_newest_first(service: LessonService) -> None:
    for n in range(5):
        await created(service, f"lesson {n}")
    titles, after, n_pages = [], None, 0
    while n_pages == 0 or after is not None:
        some, after = await page(service, 2, after)
        titles += some
        n_pages += 1
    assert titles == [f"lesson {n}" for n in (4, 3, 2, 1, 0)]
    assert n_pages == 3


async def test_no_lessons_are_an_empty_page(service: LessonService) -> None:
    assert await page(service, 2, None) == ([], None)


async def test_a_page_after_a_lesson_that_is_not_there_is_refused(service: LessonService) -> None:
    with pytest.raises(Refused) as told:
        await page(service, 2, uuid4())
    assert told.value.kind == "not-found"


@pytest.mark.parametrize(
    "value",
    [
        {"userId": str(USER)},
        {"title": "", "userId": str(USER)},
        {"title": " \t\n", "userId": str(USER)},
        {"title": "x" * 201, "userId": str(USER)},
        {"title": "x", "userId": "nobody"},
        {"title": "x", "userId": str(USER), "description": "x" * 5001},
        {"title": "x", "userId": str(USER), "lessonId": str(USER)},
        {"title": 7, "userId": str(USER)},
        [],
        None,
    ],
)
def test_what_is_no_lesson_is_refused(value: object) -> None:
    with pytest.raises(Refused) as told:
        messages.data_of(Request("create-lesson", "k", messages.value_of(value)), NewLesson)
    assert told.value.kind == "invalid"


def test_a_title_of_two_hundred_characters_is_taken() -> None:
    value = messages.value_of({"title": "ữ" * 200, "userId": str(USER), "description": None})
    assert messages.data_of(Request("create-lesson", "k", value), NewLesson).title == "ữ" * 200
