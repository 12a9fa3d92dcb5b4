"""A made-up country: schools, their classes, teachers, and who teaches what; always the same for a seed.

Everything about a school, a class or a teacher follows from the seed and its number alone, so that
a country of any size is made school by school, in little memory. Only the events' times are of now.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import blake2b
from math import ceil

from emis_streams.events import AssignmentCreated, ClassCreated, ClassUpdated, Event, TeacherCreated
from emis_streams.vietnamese import LEVELS, Level, Post, ascii_of, person

CLASSES_PER_SCHOOL = 40
"""25,000 schools, 1,000,000 classes."""
ACADEMIC_YEAR = "2026-2027"
SUBJECT_TEACHER = "subject-teacher"
MOST_POSTS = max(len(level.posts) for level in LEVELS)

Clock = Callable[[], datetime]


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Country:
    """Its size and seed say everything about it."""

    seed: int
    n_classes: int
    posts_per_class: int = 6
    """How many teachers a class has at most (12 is what an upper secondary class really has)."""

    @property
    def n_schools(self) -> int:
        return ceil(self.n_classes / CLASSES_PER_SCHOOL)

    def school(self, number: int) -> "School":
        n_classes = min(CLASSES_PER_SCHOOL, self.n_classes - number * CLASSES_PER_SCHOOL)
        return School(self, number, LEVELS[number % len(LEVELS)], n_classes)

    def schools(self) -> "Iterator[School]":
        return map(self.school, range(self.n_schools))

    def dice(self, what: str) -> bytes:
        """64 random bytes that are always the same for this name."""
        return blake2b(what.encode(), key=b"emis %d" % self.seed).digest()


@dataclass(frozen=True)
class School:
    """One school of a country; its classes are numbered 0, 1, 2, … within it."""

    country: Country
    number: int
    level: Level
    n_classes: int

    @cached_property
    def id(self) -> str:
        return id_of(self.country.dice(f"school {self.number}"))

    @cached_property
    def posts(self) -> tuple[Post, ...]:
        return self.level.posts[: self.country.posts_per_class]

    def class_dice(self, number: int) -> bytes:
        return self.country.dice(f"class {self.number} {number}")

    def teacher_dice(self, post: int, number: int) -> bytes:
        return self.country.dice(f"teacher {self.number} {post} {number}")

    def teachers(self) -> Iterator[tuple[int, int]]:
        """Post and number of each teacher; the first ones have the most classes."""
        for post, what in enumerate(self.posts):
            for number in range(ceil(self.n_classes / what.n_classes)):
                yield post, number

    @property
    def n_created(self) -> int:
        """Events that make it known."""
        n_subjects = sum(len(post.subjects) for post in self.posts)
        return len(list(self.teachers())) + self.n_classes * (1 + n_subjects)

    def homeroom_teacher_id(self, class_number: int) -> str:
        pattern = self.level.homeroom_posts
        post = min(pattern[class_number % len(pattern)], len(self.posts) - 1)
        return id_of(self.teacher_dice(post, class_number // self.posts[post].n_classes))


def id_of(dice: bytes) -> str:
    """A UUID from 16 random bytes."""
    h = dice[:16].hex()
    return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-8{h[17:20]}-{h[20:]}"


def event_id_of(dice: bytes) -> str:
    """Id of a thing's first event."""
    return id_of(dice[16:32])


def created(school: School, clock: Clock = now) -> list[Event]:
    """The events that make a school known: its teachers, classes and assignments."""
    return [*_teachers(school, clock), *_classes(school, clock), *_assignments(school, clock)]


def _teachers(school: School, clock: Clock) -> Iterator[TeacherCreated]:
    for post, number in school.teachers():
        dice = school.teacher_dice(post, number)
        name = person(dice[32:36])
        address = f"{ascii_of(name)}.{post}{number}@{school.level.short}{school.number}.example.edu.vn"
        yield TeacherCreated(
            event_id=event_id_of(dice),
            event_type="emis.teacher.created",
            timestamp=clock(),
            teacher_id=id_of(dice),
            full_name=name,
            email=address if dice[36] >= 16 else None,
            school_id=school.id,
        )


def _classes(school: School, clock: Clock) -> Iterator[ClassCreated]:
    for number in range(school.n_classes):
        dice = school.class_dice(number)
        grade, name = _grade_and_name(school, number)
        yield ClassCreated(
            event_id=event_id_of(dice),
            event_type="emis.class.created",
            timestamp=clock(),
            class_id=id_of(dice),
            class_name=name,
            grade=grade,
            academic_year=ACADEMIC_YEAR,
            total_students=25 + dice[32] % 21,
            school_id=school.id,
            homeroom_teacher_id=school.homeroom_teacher_id(number),
        )


def _grade_and_name(school: School, number: int) -> tuple[str, str]:
    grades = school.level.grades
    grade = grades[number % len(grades)]
    return f"Khối {grade}", f"Lớp {grade}{school.level.class_names[number // len(grades)]}"


def _assignments(school: School, clock: Clock) -> Iterator[AssignmentCreated]:
    for post, teacher in school.teachers():
        what = school.posts[post]
        teacher_id = id_of(school.teacher_dice(post, teacher))
        first = teacher * what.n_classes
        for number in range(first, min(first + what.n_classes, school.n_classes)):
            class_id = id_of(school.class_dice(number))
            for subject in what.subjects:
                dice = school.country.dice(f"assignment {class_id} {subject}")
                yield AssignmentCreated(
                    event_id=event_id_of(dice),
                    event_type="emis.assignment.created",
                    timestamp=clock(),
                    assignment_id=id_of(dice),
                    teacher_id=teacher_id,
                    class_id=class_id,
                    role=SUBJECT_TEACHER,
                    subject=subject,
                )


def class_updated(country: Country, update: int, clock: Clock = now) -> ClassUpdated:
    """The update of that number (0, 1, 2, …): of some class, its pupils counted anew."""
    dice = country.dice(f"update {update}")
    chosen = int.from_bytes(dice[32:40], "big") % country.n_classes
    school = country.school(chosen // CLASSES_PER_SCHOOL)
    return _updated(school, chosen % CLASSES_PER_SCHOOL, dice, clock)


def round_of_updates(school: School, round_number: int, clock: Clock = now) -> list[Event]:
    """One update of every class of a school; `round_number` tells the rounds apart."""
    return [
        _updated(school, number, school.country.dice(f"round {round_number} {school.number} {number}"), clock)
        for number in range(school.n_classes)
    ]


def _updated(school: School, number: int, dice: bytes, clock: Clock) -> ClassUpdated:
    grade, name = _grade_and_name(school, number)
    return ClassUpdated(
        event_id=event_id_of(dice),
        event_type="emis.class.updated",
        timestamp=clock(),
        class_id=id_of(school.class_dice(number)),
        class_name=name,
        grade=grade,
        academic_year=ACADEMIC_YEAR,
        total_students=25 + dice[40] % 21,
        school_id=school.id,
        homeroom_teacher_id=school.homeroom_teacher_id(number),
    )


def all_events(country: Country, n_rounds: int, n_updates: int, clock: Clock = now) -> Iterator[Event]:
    """The whole country, then `n_rounds` updates of every class, then `n_updates` of some classes."""
    for school in country.schools():
        yield from created(school, clock)
    for round_number in range(n_rounds):
        for school in country.schools():
            yield from round_of_updates(school, round_number, clock)
    for update in range(n_updates):
        yield class_updated(country, update, clock)


def n_events(country: Country, n_rounds: int, n_updates: int) -> int:
    """How many events `all_events` has."""
    return sum(s.n_created for s in country.schools()) + n_rounds * country.n_classes + n_updates


def sample_teacher_ids(seed: int, n_classes: int, n: int) -> list[str]:
    """Ids of the first n teachers of a country (fewer if it has fewer), each with a class at least."""
    ids: list[str] = []
    for school in Country(seed, n_classes).schools():
        for post, number in school.teachers():
            if len(ids) == n:
                return ids
            ids.append(id_of(school.teacher_dice(post, number)))
    return ids
