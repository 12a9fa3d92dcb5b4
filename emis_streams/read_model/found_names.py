"""What is shown of found teachers and classes: their rows, and what tells namesakes apart."""

from collections.abc import Iterable, Sequence
from itertools import islice

from emis_streams import rows
from emis_streams.answers import FoundClass, FoundTeacher, SearchPage
from emis_streams.collation import collated, sort_key
from emis_streams.read_model.keys import (
    ASSIGNMENT,
    CLASS,
    CLASSES_OF_TEACHER,
    ID_BYTES,
    PAIR_BYTES,
    TEACHER,
    TIME_BYTES,
)
from emis_streams.read_model.local_copy import LocalCopy, range_of
from emis_streams.read_model.name_search import MOST_WORK, SearchCursor, has_all, names_page
from emis_streams.rows import AssignmentRow, Body, ClassRow, TeacherRow
from emis_streams.search_query import Query

_ENTRIES_LOOKED_AT = 8
"""Of a teacher's list of classes."""


def search(
    copy: LocalCopy,
    query: Query,
    kinds: Sequence[bytes],
    limit: int,
    after: SearchCursor | None = None,
    most_work: int = MOST_WORK,
) -> SearchPage:
    """A page of the teachers and classes whose names match. Its cost is bounded by `limit` and `most_work`."""
    page = names_page(copy, query, kinds, limit, after, most_work)
    teachers = _teachers(copy, [id_ for kind, id_ in page.found if kind == TEACHER])
    classes = _classes(copy, [id_ for kind, id_ in page.found if kind == CLASS])
    return SearchPage(
        results=[
            *(one for one in teachers if _matches(one.full_name, query)),
            *(one for one in classes if _matches(one.class_name, query)),
        ],
        next_after=None if page.next_after is None else str(page.next_after),
        complete=page.is_complete,
        source="local",
    )


def of_id(copy: LocalCopy, id_: str) -> list[FoundTeacher | FoundClass]:
    """The teacher and the class of an id: one of them, or nobody."""
    return [*_teachers(copy, [id_]), *_classes(copy, [id_])]


def _matches(name: str, query: Query) -> bool:
    """The end of a very long name is not in the index."""
    return has_all(collated(name).words, query.words)


def bodies(copy: LocalCopy, prefix: bytes, keys: Sequence[str], kind: type[Body]) -> dict[str, Body]:
    """The rows of these keys that are known and not deleted."""
    values = copy.get_many([prefix + key.encode() for key in keys])
    found = ((key, rows.body_of(kept[TIME_BYTES:], kind)) for key, kept in zip(keys, values, strict=True) if kept)
    return {key: body for key, body in found if body is not None}


def _teachers(copy: LocalCopy, ids: Sequence[str]) -> list[FoundTeacher]:
    entries = {id_: _first_entries(copy, id_) for id_ in ids}
    assigned = bodies(copy, ASSIGNMENT, [f"{id_}|{a}" for id_ in ids for _, a in entries[id_] if a], AssignmentRow)
    classes = bodies(copy, CLASS, list({c for of in entries.values() for c, _ in of}), ClassRow)
    found = []
    for id_, teacher in bodies(copy, TEACHER, ids, TeacherRow).items():
        theirs = [classes[c] for c, _ in entries[id_] if c in classes]
        roles = [assigned[key] for _, a in entries[id_] if (key := f"{id_}|{a}") in assigned]
        found.append(
            FoundTeacher(
                teacher_id=id_,
                full_name=teacher.full_name,
                school_id=teacher.school_id,
                subjects=_sorted_once(role.subject for role in roles),
                class_names=_sorted_once(class_.class_name for class_ in theirs),
                academic_years=_sorted_once(class_.academic_year for class_ in theirs),
            )
        )
    return found


def _first_entries(copy: LocalCopy, teacher_id: str) -> list[tuple[str, str]]:
    """Class and assignment (empty for a homeroom class) of the first entries of a list of classes."""
    keys = islice(copy.scan_keys(*range_of(CLASSES_OF_TEACHER + teacher_id.encode())), _ENTRIES_LOOKED_AT)
    texts = [key[1:].decode() for key in keys]
    return [(text[ID_BYTES + 1 : PAIR_BYTES], text[PAIR_BYTES + 1 :]) for text in texts]


def _classes(copy: LocalCopy, ids: Sequence[str]) -> list[FoundClass]:
    classes = bodies(copy, CLASS, ids, ClassRow)
    homeroom = {body.homeroom_teacher_id for body in classes.values()}
    teachers = bodies(copy, TEACHER, [id_ for id_ in homeroom if id_ is not None], TeacherRow)
    names = {id_: teacher.full_name for id_, teacher in teachers.items()}
    return [
        FoundClass(
            class_id=id_,
            class_name=body.class_name,
            grade=body.grade,
            academic_year=body.academic_year,
            total_students=body.total_students,
            school_id=body.school_id,
            homeroom_teacher_id=body.homeroom_teacher_id,
            homeroom_teacher_name=names.get(body.homeroom_teacher_id or ""),
        )
        for id_, body in classes.items()
    ]


def _sorted_once(texts: Iterable[str | None]) -> list[str]:
    return sorted({text for text in texts if text is not None}, key=sort_key)
