"""Teachers and classes are found by name in the local copy, on a real RocksDB, as the rows are now."""

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rocksdict import WriteBatch

from emis_streams.answers import FoundClass, FoundTeacher, SearchPage
from emis_streams.collation import collated, sort_key
from emis_streams.read_model import found_names
from emis_streams.read_model.keys import INDEXES, POSITION, POSITIONS_WITHOUT_INDEXES
from emis_streams.read_model.model import CLASS, TEACHER, ReadModel
from emis_streams.read_model.name_search import SearchCursor
from emis_streams.read_model.sink import ReadModelSink
from emis_streams.search_query import address_of, query_of, wider_query_of
from emis_streams.topics import CLASSES as CLASSES_SUBJECT
from emis_streams.topics import TEACHERS as TEACHERS_SUBJECT
from tests.replica_rows import ASSIGNMENTS, CLASSES, CREATED, DELETED, TEACHERS, class_row, id_of, row_of, slice_of

SCHOOL, OTHER_SCHOOL = id_of(9), id_of(8)
BOTH = (TEACHER, CLASS)


def teacher_row(name: str, second: int = 1, school: str | None = SCHOOL) -> bytes:
    return row_of(second, CREATED, (name, None, school))


class Kept:
    """A read model, and what is found in it."""

    def __init__(self, path: Path) -> None:
        self.model = ReadModel(path)
        self._sink = ReadModelSink(self.model)

    async def teachers(self, rows: Mapping[int, bytes]) -> None:
        await self._sink.apply([slice_of(TEACHERS, {id_of(n): row for n, row in rows.items()}, 1)])

    async def classes(self, rows: Mapping[int, bytes]) -> None:
        await self._sink.apply([slice_of(CLASSES, {id_of(n): row for n, row in rows.items()}, 1)])

    async def names(self, *names: str) -> None:
        await self.teachers({n: teacher_row(name) for n, name in enumerate(names)})

    def page(self, text: str, limit: int = 100, after: str | None = None, kinds: Sequence[bytes] = BOTH) -> SearchPage:
        return self.model.search(query_of(text), kinds, limit, None if after is None else SearchCursor.of(after))

    def found(self, text: str, kinds: Sequence[bytes] = BOTH) -> list[str]:
        page = self.page(text, kinds=kinds)
        assert page.complete
        assert page.next_after is None
        return [name_of(one) for one in page.results]

    def index(self) -> list[bytes]:
        return [key for prefix in INDEXES for key in self.model.scan_keys(prefix, bytes([prefix[0] + 1]))]


def name_of(one: FoundTeacher | FoundClass) -> str:
    return one.full_name if isinstance(one, FoundTeacher) else one.class_name


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path / "read-model")
    with closing(kept.model):
        yield kept


@pytest.mark.parametrize(
    "query",
    ["hong nhung", "Nhung Hồng", "NGUYEN nhu", "nguyễn thị hồng nhung", "ng th ho nh", "nhung", " hong\tnhung. "],
)
async def test_a_teacher_is_found_by_beginnings_of_words_in_any_order(kept: Kept, query: str) -> None:
    await kept.names("Nguyễn Thị Hồng Nhung", "Nguyễn Hồng Hà", "Trần Thị Lan")
    assert kept.found(query) == ["Nguyễn Thị Hồng Nhung"]
    assert kept.found(unicodedata.normalize("NFD", query)) == ["Nguyễn Thị Hồng Nhung"]


@pytest.mark.parametrize("query", ["ong", "hongnhung", "nguyen an", "hong nhung x", "10a3"])
async def test_a_name_that_lacks_a_word_of_the_query_is_not_found(kept: Kept, query: str) -> None:
    await kept.names("Nguyễn Thị Hồng Nhung")
    assert kept.found(query) == []


async def test_a_name_in_decomposed_letters_is_found_like_any_other(kept: Kept) -> None:
    await kept.names(unicodedata.normalize("NFD", "Đỗ Thị Hường"))
    assert len(kept.found("do huong")) == 1


async def test_classes_are_found_and_come_in_natural_order(kept: Kept) -> None:
    names = ["Lớp 10A10", "Lớp 6A1", "Lớp 10A2", "Lớp 10Đ1", "Lớp 10D1", "Lớp 10B1"]
    await kept.classes({n: class_row(1, name) for n, name in enumerate(names)})
    assert kept.found("lop") == ["Lớp 6A1", "Lớp 10A2", "Lớp 10A10", "Lớp 10B1", "Lớp 10D1", "Lớp 10Đ1"]
    assert kept.found("10a") == ["Lớp 10A2", "Lớp 10A10"]
    assert kept.found("") == kept.found("lop")


async def test_teachers_come_before_classes_and_either_can_be_asked_for_alone(kept: Kept) -> None:
    await kept.names("Lê An", "Đinh An", "Dương An")
    await kept.classes({100: class_row(1, "An 1")})
    assert kept.found("an") == ["Dương An", "Đinh An", "Lê An", "An 1"]
    assert kept.found("an", [CLASS]) == ["An 1"]
    assert kept.found("", [TEACHER]) == ["Dương An", "Đinh An", "Lê An"]


async def test_a_renamed_one_is_found_by_its_new_name_only(kept: Kept) -> None:
    await kept.names("Trần Thị Lan")
    await kept.classes({100: class_row(1, "10A1")})
    await kept.teachers({0: teacher_row("Trần Thị Hồng", 2)})
    await kept.classes({100: class_row(2, "11A1")})
    assert (kept.found("lan"), kept.found("hong"), kept.found("tran")) == ([], ["Trần Thị Hồng"], ["Trần Thị Hồng"])
    assert (kept.found("10a1"), kept.found("11a1")) == ([], ["11A1"])


async def test_a_late_event_of_an_old_name_changes_nothing(kept: Kept) -> None:
    await kept.teachers({0: teacher_row("Trần Thị Hồng", 2)})
    await kept.teachers({0: teacher_row("Trần Thị Lan", 1)})
    assert (kept.found("lan"), kept.found("hong")) == ([], ["Trần Thị Hồng"])


async def test_a_deleted_one_is_not_found_and_one_that_comes_back_is(kept: Kept) -> None:
    await kept.names("Trần Thị Lan")
    await kept.classes({100: class_row(1, "10A1")})
    await kept.teachers({0: row_of(5, DELETED[TEACHERS_SUBJECT], None, created=1)})
    await kept.classes({100: row_of(5, DELETED[CLASSES_SUBJECT], None, created=1)})
    assert (kept.found("lan"), kept.found("10a1"), kept.found(SCHOOL), kept.found("")) == ([], [], [], [])
    assert kept.index() == []
    await kept.teachers({0: teacher_row("Trần Thị Lan", 6)})
    assert kept.found("lan") == ["Trần Thị Lan"]


async def test_a_school_is_found_by_its_id_alone_or_with_words(kept: Kept) -> None:
    await kept.teachers({0: teacher_row("Trần Lan"), 1: teacher_row("Lê Lan", school=OTHER_SCHOOL)})
    await kept.classes({100: class_row(1, "10A1"), 101: class_row(1, "10A1", school=OTHER_SCHOOL)})
    assert kept.found(SCHOOL) == ["Trần Lan", "10A1"]
    assert kept.found(f"lan {SCHOOL.upper()}") == ["Trần Lan"]
    assert kept.found(f"{{{OTHER_SCHOOL}}} 10a") == ["10A1"]
    await kept.teachers({0: teacher_row("Trần Lan", 2, OTHER_SCHOOL)})
    assert kept.found(f"lan {OTHER_SCHOOL}") == ["Lê Lan", "Trần Lan"]


async def test_what_tells_namesakes_apart_is_shown(kept: Kept) -> None:
    await kept.teachers({0: teacher_row("Trần Lan")})
    await kept.classes({100: class_row(1, "10A10", homeroom=id_of(0)), 101: class_row(1, "10A2")})
    sink = ReadModelSink(kept.model)
    assigned = {f"{id_of(0)}|{id_of(200)}": row_of(1, CREATED, (id_of(101), "subject-teacher", "Toán"))}
    await sink.apply([slice_of(ASSIGNMENTS, assigned, 1)])
    teacher, class_ = *kept.page("lan").results, *kept.page("10a10").results
    assert teacher == FoundTeacher(
        teacher_id=id_of(0),
        full_name="Trần Lan",
        school_id=SCHOOL,
        subjects=["Toán"],
        class_names=["10A2", "10A10"],
        academic_years=["2025-2026"],
    )
    assert isinstance(class_, FoundClass)
    assert (class_.homeroom_teacher_name, class_.academic_year, class_.school_id) == ("Trần Lan", "2025-2026", SCHOOL)


WORDS = ("An", "Ân", "Anh", "Đan", "10A1", "10A2", "2", "Nguyễn", "Thị", "An-Anh", "★", "Lớp " * 30)
NAMES_ = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4).map(" ".join).map(lambda text: text[:200])
QUERIES = st.lists(st.sampled_from(["a", "an", "anh", "d", "10a", "10a1", "2", "thi", "lop", "x", "ng"]), max_size=3)


def expected(names: Mapping[int, str], words: Sequence[str]) -> list[int]:
    """By reading all names."""
    matching = [
        n
        for n, name in names.items()
        if all(any(w.startswith(b.encode()) for w in collated(name).words) for b in words)
    ]
    return sorted(matching, key=lambda n: (sort_key(names[n]), n))


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(st.integers(0, 30), NAMES_, max_size=20),
    st.dictionaries(st.integers(0, 30), NAMES_ | st.none(), max_size=20),
    st.lists(QUERIES, min_size=1, max_size=6),
    st.integers(1, 4),
    st.sampled_from([1, 30, 6_000]),
)
async def test_whatever_happened_pages_hold_exactly_the_names_that_match(
    before: dict[int, str], changes: dict[int, str | None], queries: list[list[str]], limit: int, most_work: int
) -> None:
    with TemporaryDirectory() as folder, closing(ReadModel(Path(folder) / "m")) as model:
        sink = ReadModelSink(model)
        rows = {id_of(n): teacher_row(name) for n, name in before.items()}
        await sink.apply([slice_of(TEACHERS, rows, 1)])
        deleted = row_of(2, DELETED[TEACHERS_SUBJECT], None, created=1)
        later = {id_of(n): deleted if name is None else teacher_row(name, 2) for n, name in changes.items()}
        await sink.apply([slice_of(TEACHERS, later, 2)])
        names = {n: name for n, name in (before | changes).items() if name is not None}
        for words in queries:
            query, after = query_of(" ".join(words)), None
            found: list[str] = []
            while True:
                page = found_names.search(model, query, BOTH, limit, after, most_work)
                found += [one.teacher_id for one in page.results if isinstance(one, FoundTeacher)]
                assert len(page.results) <= limit
                if page.next_after is None:
                    break
                after = SearchCursor.of(page.next_after)
            assert found == [id_of(n) for n in expected(names, words)]


async def test_a_search_that_is_ended_early_says_so_and_where_it_goes_on(kept: Kept) -> None:
    """Every name has one of the two words, the last one has both."""
    await kept.names(*(f"Mai {n} {'Lan' if n % 2 else 'Nam'}" for n in range(2_000)), "Mai 2000 Lan Nam")
    query = query_of("nam lan")
    page = found_names.search(kept.model, query, BOTH, 20, None, most_work=500)
    assert (page.results, page.complete) == ([], False)
    n_pages = 1
    while page.next_after is not None:
        page = found_names.search(kept.model, query, BOTH, 20, SearchCursor.of(page.next_after), most_work=500)
        n_pages += 1
    assert ([name_of(one) for one in page.results], page.complete) == (["Mai 2000 Lan Nam"], True)
    assert 3 <= n_pages <= 20


async def test_what_a_search_reads_is_bounded(kept: Kept) -> None:
    await kept.names(*(f"Nguyễn Thị {n}" for n in range(5_000)))
    for text in ("n", "ng", "nguyen thi", "1", "1 2", "nguyen 4999", "th ng"):
        page = found_names.search(kept.model, query_of(text), BOTH, 20, None, most_work=2_000)
        assert page.results or not page.complete, text


@pytest.mark.parametrize("old_position", POSITIONS_WITHOUT_INDEXES)
async def test_a_copy_of_an_older_version_gets_the_same_index(kept: Kept, old_position: bytes) -> None:
    await kept.names("Nguyễn Thị Hồng Nhung", "Trần Lan")
    await kept.classes({100: class_row(1, "10A1", homeroom=id_of(0))})
    sink = ReadModelSink(kept.model)
    assigned = {f"{id_of(0)}|{id_of(200)}": row_of(1, CREATED, (id_of(100), "subject-teacher", "Toán"))}
    await sink.apply([slice_of(ASSIGNMENTS, assigned, 1)])
    index, positions = kept.index(), await sink.positions([TEACHERS, CLASSES, ASSIGNMENTS])
    older = WriteBatch(raw_mode=True)
    for key, value in list(kept.model.scan(POSITION, bytes([POSITION[0] + 1]))):
        older.put(old_position + key[1:], value)
        older.delete(key)
    for entry in index[::2]:
        older.delete(entry)
    older.put(b"nt" + b"stale\x01" + b"\0" * 16, b"")
    kept.model.write(older)
    assert await ReadModelSink(kept.model).positions([TEACHERS, CLASSES, ASSIGNMENTS]) == positions
    assert kept.index() == index


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (f"http://127.0.0.1:6066/teachers/{SCHOOL}", f"/teachers/{SCHOOL}"),
        (f"https://emis.example.vn/api/classes/{SCHOOL.upper()}?lang=vi#top", f"/classes/{SCHOOL}"),
        (f"  emis.example.vn/teachers/{SCHOOL}/ ", f"/teachers/{SCHOOL}"),
        (f"classes/{{{SCHOOL}}}", f"/classes/{SCHOOL}"),
        (f"<http://127.0.0.1:6066/teachers/{SCHOOL}>.", f"/teachers/{SCHOOL}"),
        (f"\u200bhttp://127.0.0.1:6066/teachers/{SCHOOL}\u200b", f"/teachers/{SCHOOL}"),
        (f"http://127.0.0.1:6066/classes/%7B{SCHOOL}%7D", f"/classes/{SCHOOL}"),
        (f"http://127.0.0.1:6066/api/classes/{SCHOOL}/teachers?limit=5", f"/classes/{SCHOOL}"),
        (SCHOOL, None),
        ("http://127.0.0.1:6066/teachers/10a3", None),
        ("http://127.0.0.1:6066/health", None),
        ("teachers/", None),
    ],
)
def test_a_pasted_address_leads_to_its_page(text: str, path: str | None) -> None:
    address = address_of(text)
    assert (None if address is None else str(address)) == path


@pytest.mark.parametrize(
    ("text", "like"),
    [
        ("lớp 10A3", "10a3"),
        ("LOP 10 a3", "10a3"),
        ("10 a", "10a"),
        ("cô  Hồng Nhung", "hong nhung"),
        (f"class 6 B {SCHOOL}", f"6b {SCHOOL}"),
        ("cô", "cô"),
        ("10 an", "10 an"),
        ("2025 a3", "2025 a3"),
        ("", ""),
    ],
)
def test_titles_and_blanks_in_class_names_are_left_out_of_a_wider_query(text: str, like: str) -> None:
    assert wider_query_of(text) == query_of(like)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "t.", "t.61.9", f"t.{SCHOOL}", f"a.61.{SCHOOL}", f"t.6.{SCHOOL}", f"t.g1.{SCHOOL}"),
        *(f"t.é.{SCHOOL}", f"t.61.{SCHOOL}.", f"t.{'61' * 200}.{SCHOOL}"),
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - its text is for nobody
        SearchCursor.of(text)
