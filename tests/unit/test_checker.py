"""What the fault matrix's checker must turn red, by hand: its specification.

Each case spoils one thing in a world where all is right (tests/hand_made.py), and names the kind of finding.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker.stores import DeadLetter, Partition
from tests.faults.checker.truth import Place, Version
from tests.hand_made import (
    ASSIGNED_A,
    BAD,
    LIMIT_SECONDS,
    A,
    B,
    C,
    T,
    World,
    an_id,
    class_body,
    right,
    row_of,
    tie,
    time_text,
)
from tests.integration.independent import NO_ORDER, kept_in

Spoil = Callable[[World], object]
CASES: list[tuple[str, Spoil]] = []


def bad(kind: str) -> Callable[[Spoil], Spoil]:
    def kept(spoil: Spoil) -> Spoil:
        CASES.append((kind, spoil))
        return spoil

    return kept


def version_of(world: World, place: int) -> Version:
    """0: A created, 1: B created, 6: A updated, 7: B deleted."""
    return world.sent[place].version


# -- lost -----------------------------------------------------------------------------------------


@bad("lost")
def acknowledged_and_not_in_the_log(world: World) -> None:
    world.sent[0] = replace(world.sent[0], offset=99)


@bad("lost")
def another_event_stands_where_the_brokers_said(world: World) -> None:
    world.sent[0] = replace(world.sent[0], offset=1)


@bad("lost")
def database_has_no_row(world: World) -> None:
    del world.mysql["classes", C]


@bad("lost")
def database_has_no_marker_of_what_is_deleted(world: World) -> None:
    del world.mysql["classes", B]


@bad("lost")
def database_has_an_older_row(world: World) -> None:
    world.change_mysql("classes", A, **world.kept("classes", A)._replace(time_us=100_000_000)._asdict())


@bad("lost")
def changelog_lacks_a_key(world: World) -> None:
    world.changelog = [entry for entry in world.changelog if entry.key != C]


@bad("lost")
def changelog_says_null(world: World) -> None:
    world.changelog.append(world.changelog[0]._replace(offset=9, row=None))


@bad("lost")
def table_of_the_owner_lacks_a_row(world: World) -> None:
    world.change_table(0, rows={key: row for key, row in world.tables[0].rows.items() if key[1] != C})


@bad("lost")
def table_of_a_former_owner_is_behind_its_position(world: World) -> None:
    world.change_table(1, position=4)


@bad("lost")
def table_with_the_same_position_lacks_a_row(world: World) -> None:
    world.change_table(1, position=5)


@bad("lost")
def known_class_is_not_found_at_the_end(world: World) -> None:
    world.answers["classes", A] = (404, {"stale": False})


@bad("lost")
def deleted_class_is_not_found_at_the_end(world: World) -> None:
    world.answers["classes", B] = (404, {"stale": False})


@bad("lost")
def worker_does_not_answer_at_the_end(world: World) -> None:
    world.answers["teachers", T] = (0, None)


@bad("lost")
def class_that_was_shown_is_not_found_though_told_as_stale(world: World) -> None:
    world.answer("classes", A, 131, 404, stale=True)


@bad("lost")
def teacher_that_was_shown_is_not_found(world: World) -> None:
    world.answer("teachers", T, 104, 404)


@bad("lost")
def useless_record_is_no_dead_letter(world: World) -> None:
    world.letters.clear()


@bad("lost")
def good_event_is_a_dead_letter(world: World) -> None:
    world.letters.append(DeadLetter(Place("emis.class.created", 0, 0), b"?", "nonsense"))


@bad("lost")
def database_keeps_the_earlier_of_two_updates_of_one_time(world: World) -> None:
    earlier, _ = tie(world)
    world.mysql["classes", A] = earlier


@bad("lost")
def table_keeps_the_earlier_of_two_updates_of_one_time(world: World) -> None:
    earlier, _ = tie(world)
    world.change_table(0, rows={**world.tables[0].rows, ("classes", A): row_of(earlier)}, position=5)


# -- dup_effect -----------------------------------------------------------------------------------


@bad("dup_effect")
def class_is_twice_on_a_page(world: World) -> None:
    entries = world.read[2].entries
    world.change_read(2, entries=(*entries, entries[0]))


@bad("dup_effect")
def homeroom_class_is_twice_on_a_page(world: World) -> None:
    entries = world.read[2].entries
    world.change_read(2, entries=(*entries, entries[2]))


@bad("dup_effect")
def class_is_twice_on_the_page_at_the_end(world: World) -> None:
    entries = world.answers["teachers", T][1]["classAssignments"]
    entries.append(entries[0])


# -- reorder --------------------------------------------------------------------------------------


@bad("reorder")
def class_goes_back(world: World) -> None:
    world.answer("classes", A, 112, 200, version_of(world, 0), name="A1")


@bad("reorder")
def class_goes_back_though_told_as_stale(world: World) -> None:
    world.answer("classes", A, 112, 200, version_of(world, 0), name="A1", stale=True)


@bad("reorder")
def deleted_class_comes_back_to_a_page(world: World) -> None:
    world.answer("classes", B, 112, 200, version_of(world, 1), name="B1")


@bad("reorder")
def teachers_page_shows_an_older_class_than_the_page_before(world: World) -> None:
    world.answer("teachers", T, 112, 200, name="Nguyễn Văn Tú", entries=((ASSIGNED_A, A, "A1"),))


@bad("reorder")
def teacher_goes_back(world: World) -> None:
    world.send("emis.teacher.updated", T, 112, teacherId=T, fullName="Nguyễn Văn Tuấn")
    world.mysql["teachers", T] = world.kept("teachers", T)
    world.answers["teachers", T][1]["fullName"] = "Nguyễn Văn Tuấn"
    world.answer("teachers", T, 113, 200, name="Nguyễn Văn Tuấn")
    world.answer("teachers", T, 114, 200, name="Nguyễn Văn Tú")


@bad("reorder")
def changelog_ends_with_a_lower_version(world: World) -> None:
    """Whose key is then behind in the changelog as well."""
    world.changelog.append(world.changelog[0]._replace(offset=9))


@bad("reorder")
def page_goes_back_to_the_earlier_of_two_updates_of_one_time(world: World) -> None:
    earlier, later = tie(world)
    world.answer("classes", A, 113, 200, later[:4], name="A6")
    world.answer("classes", A, 114, 200, earlier[:4], name="A3")


@bad("reorder")
def changelog_ends_with_the_earlier_of_two_updates_of_one_time(world: World) -> None:
    earlier, _ = tie(world)
    world.changelog.append(world.changelog[-1]._replace(offset=99, row=row_of(earlier)))


# -- resurrect ------------------------------------------------------------------------------------


@bad("resurrect")
def deleted_class_is_alive_in_the_database(world: World) -> None:
    alive = world.kept("classes", C).fields
    world.mysql["classes", B] = world.kept("classes", B)._replace(time_us=100_000_000, rank=0, fields=alive)


@bad("resurrect")
def deleted_class_is_alive_in_the_table(world: World) -> None:
    alive = world.kept("classes", C)._replace(time_us=100_000_000)
    world.change_table(0, position=4, rows={**world.tables[0].rows, ("classes", B): row_of(alive)})


@bad("resurrect")
def deleted_class_answers(world: World) -> None:
    world.answers["classes", B] = (200, class_body(world.kept("classes", C)))


@bad("resurrect")
def class_that_never_was_answers(world: World) -> None:
    world.answers["classes", an_id("never")] = (200, class_body(world.kept("classes", C)))


# -- divergent ------------------------------------------------------------------------------------


@bad("divergent")
def database_has_other_fields_of_the_same_version(world: World) -> None:
    world.change_mysql("classes", A, fields=world.kept("classes", C).fields)


@bad("divergent")
def database_does_not_know_when_the_class_was_created(world: World) -> None:
    world.change_mysql("classes", A, created_us=110_000_000)


@bad("divergent")
def database_has_the_id_of_another_event(world: World) -> None:
    world.change_mysql("classes", A, event_id="ffffffff-ffff-ffff-0000-000000000000")


@bad("divergent")
def answer_does_not_know_when_the_class_was_created(world: World) -> None:
    world.answers["classes", A][1]["createdAt"] = time_text(110_000_000)


@bad("divergent")
def answer_at_the_end_is_the_earlier_of_two_updates_of_one_time(world: World) -> None:
    earlier, _ = tie(world)
    world.answers["classes", A] = (200, class_body(earlier))


@bad("divergent")
def table_does_not_know_when_the_class_was_created(world: World) -> None:
    late = world.kept("classes", A)._replace(created_us=110_000_000)
    world.change_table(0, rows={**world.tables[0].rows, ("classes", A): row_of(late)})


@bad("divergent")
def changelog_row_has_a_checksum_of_other_content(world: World) -> None:
    number = next(n for n, entry in enumerate(world.changelog) if entry.key == C)
    row = world.changelog[number].row or b""
    world.changelog[number] = world.changelog[number]._replace(row=row[:25] + bytes(4) + row[29:])


@bad("divergent")
def answer_has_another_number_of_pupils(world: World) -> None:
    world.answers["classes", A] = (200, class_body(world.kept("classes", A), totalStudents=31))


@bad("divergent")
def teachers_page_lacks_a_class(world: World) -> None:
    world.answers["teachers", T][1]["classAssignments"].pop()


@bad("divergent")
def teachers_page_shows_a_deleted_class_as_alive(world: World) -> None:
    world.answers["teachers", T][1]["classAssignments"][1]["deleted"] = False


@bad("divergent")
def teachers_page_has_another_subject(world: World) -> None:
    world.answers["teachers", T][1]["classAssignments"][0]["subject"] = "Ngữ văn"


@bad("divergent")
def name_of_one_version_is_shown_with_another(world: World) -> None:
    world.change_read(3, name="A1")


@bad("divergent")
def dead_letter_is_not_what_was_sent(world: World) -> None:
    world.letters = [DeadLetter(BAD, b"no even", "no JSON")]


# -- phantom --------------------------------------------------------------------------------------


@bad("phantom")
def version_was_never_sent(world: World) -> None:
    world.answer("classes", C, 102, 200, (100_000_001, 0, 7, an_id("never")), worker="worker-2")


@bad("phantom")
def delete_was_never_sent(world: World) -> None:
    world.answer("classes", C, 120, 410, (120_000_000, 2, NO_ORDER, ""))


@bad("phantom")
def teachers_name_was_never_sent(world: World) -> None:
    world.change_read(2, name="Nguyễn Văn Nam")


@bad("phantom")
def name_of_another_class_is_on_a_page(world: World) -> None:
    world.change_read(2, entries=((ASSIGNED_A, A, "C1"),))


@bad("phantom")
def database_has_a_row_of_nothing(world: World) -> None:
    world.mysql["classes", an_id("never")] = world.kept("classes", C)


@bad("phantom")
def changelog_had_a_row_of_nothing_for_a_while(world: World) -> None:
    world.changelog.insert(0, world.entry(A, (99_000_000, 0, 7, an_id("never")), 0))


# -- unflagged_stale ------------------------------------------------------------------------------


@bad("unflagged_stale")
def class_is_old_and_does_not_say_so(world: World) -> None:
    world.answer("classes", A, 117, 200, version_of(world, 0), name="A1", worker="worker-2")


@bad("unflagged_stale")
def known_class_is_not_found_and_the_answer_does_not_say_that_it_is_old(world: World) -> None:
    world.answer("classes", A, 117, 404, worker="worker-2")


@bad("unflagged_stale")
def deleted_class_is_shown_and_does_not_say_that_it_is_old(world: World) -> None:
    world.answer("classes", B, 117, 200, version_of(world, 1), name="B1", worker="worker-2")


@bad("unflagged_stale")
def teachers_page_shows_an_old_class_and_does_not_say_so(world: World) -> None:
    entries = ((ASSIGNED_A, A, "A1"),)
    world.answer("teachers", T, 117, 200, name="Nguyễn Văn Tú", entries=entries, worker="worker-2")


@bad("unflagged_stale")
def teacher_is_not_found_and_the_answer_does_not_say_that_it_is_old(world: World) -> None:
    world.answer("teachers", T, 117, 404, worker="worker-2")


@pytest.mark.parametrize(("kind", "spoil"), CASES, ids=[f"{kind}: {spoil.__name__}" for kind, spoil in CASES])
def test_one_mistake_is_found_and_named(kind: str, spoil: Spoil) -> None:
    world = right()
    spoil(world)
    ends_lower = (changelog_ends_with_a_lower_version, changelog_ends_with_the_earlier_of_two_updates_of_one_time)
    also = {"lost"} if spoil in ends_lower else set()
    assert world.found() == {kind} | also


def test_every_kind_has_two_cases_or_more() -> None:
    kinds = [kind for kind, _ in CASES]
    assert all(kinds.count(kind) >= 2 for kind in kinds)


# -- the good twins -------------------------------------------------------------------------------


def test_a_right_world_has_no_findings() -> None:
    assert right().findings().is_clean


def not_acknowledged(world: World) -> None:
    """Nobody knows whether it is in the log."""
    world.sent[0] = replace(world.sent[0], acked=None, offset=None)


def old_and_says_so(world: World) -> None:
    world.answer("classes", A, 117, 200, version_of(world, 0), name="A1", worker="worker-2", stale=True)


def old_but_not_older_than_allowed(world: World) -> None:
    at = 110 + LIMIT_SECONDS
    world.answer("classes", A, at, 200, version_of(world, 0), name="A1", worker="worker-2")


def asked_before_the_newer_one_was_told(world: World) -> None:
    """Two requests at once may be answered in any order."""
    world.change_read(0, asked=110.9, due=110.9, took=0.5)


def not_found_before_it_was_sent(world: World) -> None:
    world.answer("classes", A, 99, 404)


def refused_while_overloaded(world: World) -> None:
    """That counts for availability."""
    world.answer("classes", A, 131, 503)


def sent_twice(world: World) -> None:
    again = world.sent[6]
    world.truth.places[Place(again.topic, 0, 50)] = again.version[3]
    world.sent.append(replace(again, offset=50))


def changelog_went_back_and_was_mended(world: World) -> None:
    world.changelog += [world.changelog[0]._replace(offset=9), world.changelog[3]._replace(offset=10)]


def topic_had_more_partitions_for_a_time(world: World) -> None:
    """An older row is in a partition that is not its key's: there it stays."""
    older = world.changelog[0]
    world.changelog.append(older._replace(partition=3))
    rows = {("classes", older.key): older.row or b""}
    world.tables.append(Partition("worker-1", "classes", 3, 1, b"topic", rows))


def dead_letter_came_twice(world: World) -> None:
    world.letters *= 2


def former_owner_has_rows_that_were_never_acknowledged(world: World) -> None:
    world.change_table(1, position=0)


def changelog_was_made_anew(world: World) -> None:
    """Positions of two topics cannot be compared."""
    world.change_table(1, position=4, topic_id=b"former topic")


def later_of_two_updates_of_one_time_has_the_lower_id(world: World) -> None:
    earlier, later = tie(world)
    assert later.event_id < earlier.event_id
    world.answer("classes", A, 113, 200, earlier[:4], name="A3")
    world.answer("classes", A, 114, 200, later[:4], name="A6")


def event_sent_again_is_shown_by_name_before_and_after(world: World) -> None:
    """A page of a teacher tells the name only, and the copy of an event is at another place in the log."""
    world.answer("teachers", T, 113, 200, name="Nguyễn Văn Tú", entries=((ASSIGNED_A, A, "A2"),))
    copy = Place("emis.class.updated", 0, 50)
    world.truth.named["classes", A]["A2"].append((110_000_000, 1, copy.offset, version_of(world, 6)[3]))
    world.answer("teachers", T, 114, 200, name="Nguyễn Văn Tú", entries=((ASSIGNED_A, A, "A2"),))


GOOD = (
    later_of_two_updates_of_one_time_has_the_lower_id,
    event_sent_again_is_shown_by_name_before_and_after,
    not_acknowledged,
    old_and_says_so,
    old_but_not_older_than_allowed,
    asked_before_the_newer_one_was_told,
    not_found_before_it_was_sent,
    refused_while_overloaded,
    sent_twice,
    changelog_went_back_and_was_mended,
    topic_had_more_partitions_for_a_time,
    dead_letter_came_twice,
    former_owner_has_rows_that_were_never_acknowledged,
    changelog_was_made_anew,
)


@pytest.mark.parametrize("change", GOOD, ids=lambda change: change.__name__)
def test_what_is_allowed_stays_green(change: Spoil) -> None:
    world = right()
    change(world)
    assert world.findings().is_clean, world.findings().examples()


# -- beside workers of the last release -----------------------------------------------------------


def test_the_last_release_may_keep_either_of_two_tied_events_if_all_keep_the_same() -> None:
    world = right(with_last_release=True)
    earlier, later = tie(world)
    by_id = earlier._replace(order=NO_ORDER)
    world.truth.settle({("classes", A): kept_in(row_of(by_id))})
    assert world.kept("classes", A) == by_id
    world.mysql["classes", A] = later
    assert "divergent" in world.found()


def test_what_the_last_release_keeps_has_to_be_one_of_the_tied_events() -> None:
    world = right(with_last_release=True)
    expected = world.kept("classes", A)
    _, later = tie(world)
    world.truth.settle({("classes", A): expected})
    assert world.kept("classes", A) == later
