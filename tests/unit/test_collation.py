"""Names as Vietnamese readers search and sort them."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.collation import MOST_KEY_BYTES, MOST_WORD_BYTES, collated, sort_key, words_of_key


def words(text: str) -> list[str]:
    return [word.decode() for word in collated(text).words]


@pytest.mark.parametrize(
    ("name", "folded"),
    [
        ("Nguyễn Thị Hồng Nhung", ["nguyen", "thi", "hong", "nhung"]),
        ("ĐỖ ĐÌNH ĐẠT", ["do", "dinh", "dat"]),
        ("Ðỗ Ðức", ["do", "duc"]),
        ("Ɖỗ ƉỨC", ["do", "duc"]),
        ("Lớp 10A3", ["lop", "10a3"]),
        ("Lớp 10/A3 – Chuyên Văn", ["lop", "10", "a3", "chuyen", "van"]),
        ("H'Hen Niê", ["h", "hen", "nie"]),
        ("Trần_Văn.An", ["tran", "van", "an"]),
        ("１０Ａ３", ["10a3"]),
        ("Lớp 05A01", ["lop", "05a01"]),
        ("Straße ÉCOLE İzmir", ["strasse", "ecole", "izmir"]),
        ("An An an", ["an"]),
        ("Ὀδυσσεύς 王小明", ["οδυσσευσ", "王小明"]),
        ("★ –", []),
    ],
)
def test_words_have_no_case_and_no_accents(name: str, folded: list[str]) -> None:
    assert words(name) == folded
    assert words(unicodedata.normalize("NFD", name)) == folded


@pytest.mark.parametrize(
    "in_order",
    [
        ["Lớp 6A1", "Lớp 6A2", "Lớp 6A10", "Lớp 10A1", "Lớp 10A2", "Lớp 10A10"],
        ["6A1", "10A2", "10A10"],
        ["9", "10", "99", "100", "1000", "1" * 20],
        ["7", "07", "8", "08"],
        ["Da", "Dung", "Dũng", "Dương", "Đa", "Đào", "Đỗ", "Em"],
        ["An", "Anh", "Ăn", "Ân", "Ba"],
        ["Hoa", "Hòa", "Hỏa", "Hoã", "Hoá", "Họa", "Hô", "Hồ", "Hơ", "Hu", "Hư"],
        ["Lê", "Lê An", "Lê Thị An", "Lễ", "Lễ An"],
        ["", "10A1", "A1", "王"],
    ],
)
def test_names_sort_as_in_a_vietnamese_list(in_order: list[str]) -> None:
    assert sorted(set(in_order), key=sort_key) == in_order
    assert sorted(in_order, key=lambda name: sort_key(unicodedata.normalize("NFD", name))) == in_order


@given(st.text(max_size=60))
def test_any_text_has_words_without_accents_and_a_bounded_key(text: str) -> None:
    found = collated(text)
    assert all(0 < len(word) <= MOST_WORD_BYTES for word in found.words)
    assert len(found.sort_key) <= MOST_KEY_BYTES + 1
    assert found.sort_key.count(b"\x01") == 1
    assert b"\0" not in found.sort_key
    assert found == collated(text.upper()) or text.upper().casefold() != text.casefold()


@given(st.text(max_size=20) | st.from_regex(r"[0-9 A-CĐđâẫ]{0,20}", fullmatch=True))
def test_a_sort_key_holds_the_words(text: str) -> None:
    found = collated(text)
    held = words_of_key(found.sort_key)
    assert held is not None
    assert [word.encode() for word in dict.fromkeys(held)] == list(found.words)


@given(st.integers(0, 10**14), st.integers(0, 10**14))
def test_numbers_sort_by_value(one: int, other: int) -> None:
    assert (sort_key(f"Lớp {one}A") < sort_key(f"Lớp {other}A")) == (one < other)
