"""Ids in requests: every usual form of a UUID is the same id, and nothing else is one."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emis_streams.events import is_canonical_id
from emis_streams.ids import canonical_id, with_canonical_ids

ID = "0c0000ab-0000-4000-8000-00000000000f"


@pytest.mark.parametrize(
    "form",
    [
        ID,
        ID.upper(),
        f"{{{ID}}}",
        f"{{{ID.upper()}}}",
        f"urn:uuid:{ID}",
        f"URN:UUID:{ID}",
        ID.replace("-", ""),
        f"  {ID}\t",
        f"\u00a0{ID}\u200b",
        f"\ufeff{{{ID}}}\u2060\n",
    ],
)
def test_usual_forms_are_the_canonical_one(form: str) -> None:
    assert canonical_id(form) == ID


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ID[:-1],
        ID + "0",
        f"{{{ID}",
        f"{ID}}}",
        f"{{{{{ID}}}}}",
        ID.replace("0c", "0g"),
        ID.replace("0c", "٠c"),
        "0c0000ab0000-4000-8000-00000000000f",
        "-".join(ID.replace("-", "")),
        f"{ID}\x00",
        f"{ID[:10]}\u200b{ID[10:]}",
        " " * 10_000 + ID,
    ],
)
def test_nothing_else_is_an_id(text: str) -> None:
    assert canonical_id(text) is None


@given(st.text(max_size=60) | st.uuids().map(str))
def test_what_is_found_is_canonical_and_found_again(text: str) -> None:
    found = canonical_id(text)
    if found is not None:
        assert is_canonical_id(found)
        assert canonical_id(found) == found
        assert uuid.UUID(found).hex == "".join(c for c in text.lower() if c in "0123456789abcdef")


def test_members_are_ids_by_their_name() -> None:
    given = {"userId": ID.upper(), "user_id": f"{{{ID}}}", "title": ID.upper(), "lessonId": "x", "classId": 5}
    assert with_canonical_ids(given) == {
        "userId": ID,
        "user_id": ID,
        "title": ID.upper(),
        "lessonId": "x",
        "classId": 5,
    }
