"""Numbers in texts agree with their words."""

import pytest

from emis_streams.quantities import Quantity, counted, filled


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 records wait"), (1, "1 record waits"), (2, "2 records wait"), (21, "21 records wait")]
)
def test_exactly_one_has_the_singular(n: int, text: str) -> None:
    assert filled("{lag:record waits|records wait}", {"lag": n}) == text


def test_each_number_of_a_text_chooses_by_itself() -> None:
    assert filled("{a:row|rows} in {b:part|parts}", {"a": 1, "b": 2}) == "1 row in 2 parts"


def test_what_is_shown_is_not_what_chooses() -> None:
    assert f"{Quantity(1.0, '1,0'):record|records}" == "1,0 record"
    assert f"{Quantity(1_200, '1,200'):record|records}" == "1,200 records"


def test_other_formats_are_those_of_numbers() -> None:
    assert filled("{seconds:.1f} s {name} {n}", {"seconds": 2, "name": "x", "n": 7}) == "2.0 s x 7"


def test_what_is_counted_has_separators_of_thousands() -> None:
    assert [counted(n, "line") for n in (0, 1, 1_200)] == ["0 lines", "1 line", "1,200 lines"]
    assert [counted(n, "class", "classes") for n in (1, 2)] == ["1 class", "2 classes"]
