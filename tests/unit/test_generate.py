"""The made-up country is the same for a seed, keeps the contract, and looks like a real one."""

import unicodedata
from collections import Counter
from datetime import UTC, datetime
from itertools import islice

import msgspec
import pytest

from emis_streams import generate, vietnamese
from emis_streams.events import AssignmentCreated, ClassCreated, ClassUpdated, TeacherCreated
from emis_streams.generate import Country, all_events, sample_teacher_ids
from emis_streams.producer import check

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


def noon() -> datetime:
    return NOON


def of_kind(country: Country, kind: type) -> list:  # type: ignore[type-arg]
    return [event for event in all_events(country, 0, 0) if isinstance(event, kind)]


@pytest.mark.parametrize("posts", [1, 6, generate.MOST_POSTS])
def test_every_event_keeps_the_contract(posts: int) -> None:
    country = Country(seed=3, n_classes=330, posts_per_class=posts)
    records, refused = check(list(all_events(country, 1, 100)))
    assert refused == []
    assert len(records) == generate.n_events(country, 1, 100)


def test_the_same_seed_gives_the_same_country_but_for_the_times() -> None:
    first = [msgspec.json.encode(event) for event in all_events(Country(1, 100), 1, 10, noon)]
    second = [msgspec.json.encode(event) for event in all_events(Country(1, 100), 1, 10, noon)]
    other_seed = [msgspec.json.encode(event) for event in all_events(Country(2, 100), 1, 10, noon)]
    assert first == second
    assert set(first).isdisjoint(other_seed)


def test_events_are_stamped_with_the_time_of_making() -> None:
    before = datetime.now(UTC)
    (event,) = islice(all_events(Country(1, 40), 0, 0), 1)
    assert before <= event.timestamp <= datetime.now(UTC)


def test_a_bigger_country_begins_with_the_smaller_one() -> None:
    small = {e.class_id: e.class_name for e in of_kind(Country(1, 80), ClassCreated)}
    big = {e.class_id: e.class_name for e in of_kind(Country(1, 800), ClassCreated)}
    assert small.items() <= big.items()


def test_all_ids_differ() -> None:
    events = list(all_events(Country(1, 400), 2, 50))
    assert len({event.event_id for event in events}) == len(events)
    assert len({e.class_id for e in events if isinstance(e, ClassCreated)}) == 400


def test_schools_have_forty_classes_with_names_of_their_own() -> None:
    classes = of_kind(Country(1, 400), ClassCreated)
    by_school = Counter(e.school_id for e in classes)
    assert list(by_school.values()) == [40] * 10
    assert len({(e.school_id, e.class_name) for e in classes}) == len(classes)
    assert (classes[0].class_name, classes[0].grade, classes[0].academic_year) == ("Lớp 10A1", "Khối 10", "2026-2027")


def test_the_last_school_has_what_is_left() -> None:
    assert [school.n_classes for school in Country(1, 90).schools()] == [40, 40, 10]


def test_teachers_have_between_one_and_about_ten_classes_that_exist() -> None:
    country = Country(1, 800)
    known = {e.class_id for e in of_kind(country, ClassCreated)}
    teachers = {e.teacher_id for e in of_kind(country, TeacherCreated)}
    assignments = of_kind(country, AssignmentCreated)
    assert {e.class_id for e in assignments} == known
    per_teacher = Counter(e.teacher_id for e in assignments)
    assert set(per_teacher) == teachers
    assert max(per_teacher.values()) <= 10
    assert len({(e.class_id, e.subject) for e in assignments}) == len(assignments)


def test_every_class_has_a_homeroom_teacher_of_its_school_who_teaches_it() -> None:
    country = Country(1, 320)
    teaches = {(e.teacher_id, e.class_id) for e in of_kind(country, AssignmentCreated)}
    classes = of_kind(country, ClassCreated)
    assert {(e.homeroom_teacher_id, e.class_id) for e in classes} <= teaches
    assert max(Counter(e.homeroom_teacher_id for e in classes).values()) == 1


def test_the_first_teachers_have_several_classes() -> None:
    country = Country(7, 20_000)
    first = sample_teacher_ids(7, 20_000, 10)
    classes = Counter(e.teacher_id for e in generate.created(country.school(0)) if isinstance(e, AssignmentCreated))
    assert len(set(first)) == 10
    assert [classes[teacher_id] for teacher_id in first[:4]] == [10, 10, 10, 10]
    assert all(classes[teacher_id] >= 4 for teacher_id in first)


def test_a_country_of_one_class_has_sample_teachers() -> None:
    assert len(sample_teacher_ids(1, 1, 3)) == 3


def test_updates_are_of_known_classes_and_keep_their_names() -> None:
    country = Country(1, 100)
    classes = {e.class_id: e for e in of_kind(country, ClassCreated)}
    updates = [generate.class_updated(country, n) for n in range(200)]
    assert all(isinstance(update, ClassUpdated) for update in updates)
    assert all(classes[update.class_id].class_name == update.class_name for update in updates)
    assert len({update.class_id for update in updates}) > 50


def test_a_round_of_updates_is_of_every_class_once() -> None:
    country = Country(1, 100)
    updated = Counter(e.class_id for e in all_events(country, 2, 0) if isinstance(e, ClassUpdated))
    assert set(updated.values()) == {2}
    assert len(updated) == 100


def test_a_million_classes_are_made_one_after_the_other() -> None:
    country = Country(1, 1_000_000)
    assert country.n_schools == 25_000
    assert sum(1 for _ in islice(all_events(country, 0, 0), 1_000)) == 1_000


def test_names_are_vietnamese_and_normalised() -> None:
    teachers = of_kind(Country(1, 400), TeacherCreated)
    names = Counter(e.full_name for e in teachers)
    assert len(names) > len(teachers) * 0.6
    assert all(unicodedata.is_normalized("NFC", name) for name in names)
    assert sum(name.startswith("Nguyễn ") for name in names) > len(names) * 0.2
    assert {e.email is None for e in teachers} == {True, False}


@pytest.mark.parametrize(
    ("name", "plain"),
    [("Đỗ Thị Hằng", "do.thi.hang"), ("Nguyễn Hữu Hoà", "nguyen.huu.hoa"), ("Lý Gia Uyên", "ly.gia.uyen")],
)
def test_addresses_have_no_diacritics(name: str, plain: str) -> None:
    assert vietnamese.ascii_of(name) == plain
