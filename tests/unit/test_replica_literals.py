"""Rows as SQL text."""

import pytest

from emis_streams.replica.literals import literal_rows


def test_rows_become_one_list_of_values() -> None:
    rows = [("a", None, 3), ("Lớp 10A2 — 50% 🙂", "", None)]
    assert literal_rows(rows) == "('a',NULL,'3'),('Lớp 10A2 — 50% 🙂','',NULL)"


@pytest.mark.parametrize("special", ["'", '"', "\\", "\0", "\n", "\r", "\x1a"])
def test_what_needs_escaping_is_left_to_the_driver(special: str) -> None:
    assert literal_rows([("a", "b"), ("c", f"x{special}y")]) is None


@pytest.mark.parametrize("text", ["\x1c", "\x1d", "\x1e", "a\x1cb", "\x1d\x1e\x1c"])
def test_a_text_with_a_sign_that_stands_for_something_is_left_to_the_driver(text: str) -> None:
    assert literal_rows([("a", text, None), ("b", "c", 1)]) is None
