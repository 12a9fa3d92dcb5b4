"""What somebody types to find teachers and classes: an id, a pasted address of a page, or beginnings of words. Pure."""

import re
from typing import NamedTuple
from urllib.parse import unquote

from emis_streams.collation import collated
from emis_streams.ids import canonical_id

MOST_CHARACTERS = 200
"""Of a query."""
_ADDRESS = re.compile(r"(?:^|/)(?P<page>teachers|classes)/(?P<id>[^/?#\s]+)(?:/teachers)?/?(?:[?#]\S*)?\s*$")

_PARTS_OF_CLASS_NAME = re.compile(r"\b(\d{1,2})\s+(?=[^\W\d_]\d{0,2}\b)")
_TITLES = frozenset((word,) for word in (b"lop", b"class", b"thay", b"co", b"gv", b"teacher", b"mr", b"ms", b"mrs"))
"""Folded words that people type before a name, and that are no part of it."""
_BEHIND_ADDRESS = ".,;:!)>\"'”’"
"""Of the sentence that an address was copied from."""


class Address(NamedTuple):
    """Of the page of a teacher or a class."""

    page: str
    """Its list: `teachers` or `classes`."""
    id: str
    """In canonical form."""

    def __str__(self) -> str:
        return f"/{self.page}/{self.id}"


class Query(NamedTuple):
    """Names have to match all of it."""

    words: tuple[bytes, ...]
    """Folded; each is the beginning of a word of the name. Longer ones come first."""
    school_ids: tuple[str, ...] = ()


def query_of(text: str) -> Query:
    """The words in any order; ids among them are ids of schools."""
    parts = [(part, canonical_id(part)) for part in text.split()]
    words = collated(" ".join(part for part, id_ in parts if id_ is None)).words
    ids = dict.fromkeys(id_ for _, id_ in parts if id_ is not None)
    return Query(tuple(sorted(words, key=len, reverse=True)), tuple(ids))


def wider_query_of(text: str) -> Query:
    """For a text that finds nothing as it was typed: `lớp 10 A3` as `10A3`, `cô Hồng Nhung` as `Hồng Nhung`."""
    first, _, rest = _PARTS_OF_CLASS_NAME.sub(r"\1", text.strip()).partition(" ")
    is_title = rest.strip() != "" and collated(first).words[:1] in _TITLES
    return query_of(rest if is_title else f"{first} {rest}")


def only_id(text: str) -> str | None:
    """The id, in canonical form, if the text is nothing else."""
    return canonical_id(text)


def address_of(text: str) -> Address | None:
    """If the text is the address of a teacher's or a class's page, or of its JSON, at whatever host."""
    found = _ADDRESS.search(text.strip())
    id_ = None if found is None else canonical_id(unquote(found["id"]).rstrip(_BEHIND_ADDRESS))
    return None if found is None or id_ is None else Address(found["page"], id_)
