"""Finds names in the index: a page of them in their natural order, at a bounded cost.

A word of a query that begins few different words is a list of entries, and lists are intersected by seeks. A word that
begins many ("th") is no list: the names that the other words give are looked at one by one, or all names if there are
no other words. Such words are frequent, so that a page is full soon.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

from emis_streams.collation import MOST_KEY_BYTES, NAME_ENDS, words_of_key
from emis_streams.ids import canonical_id
from emis_streams.read_model.keys import NAMES, NAMES_OF_SCHOOL, SHORT_ID_BYTES, WORDS_OF_NAMES, short_id
from emis_streams.read_model.local_copy import LocalCopy
from emis_streams.read_model.postings import Postings, Sorted, Union, Work, next_common
from emis_streams.read_model.search_index import KINDS, WORD_ENDS, id_of
from emis_streams.search_query import Query

MOST_WORK = 6_000
"""Steps of iterators for one page: about 5 ms. A page that is not full by then says where to go on."""
_FEW_WORDS, _MANY_WORDS = 8, 64
"""So many different words of names begin with a word that is a list; and with one that can be, if there is no other."""
_MOST_WORDS_EXPANDED = 6
"""Words of a query that may become lists: the longest ones."""
_HEX = re.compile(r"([0-9a-f]{2})*")


class SearchCursor(NamedTuple):
    """The last name of a page, or the last one that was looked at: where the next page goes on."""

    kind: bytes
    suffix: bytes

    @classmethod
    def of(cls, text: str) -> Self:
        """From the text of `nextAfter`. Raises ValueError for any other text."""
        kind, _, rest = text.partition(".")
        key, _, id_text = rest.partition(".")
        id_ = canonical_id(id_text)
        if kind.encode() not in KINDS or id_ is None or not _HEX.fullmatch(key) or len(key) > 2 * MOST_KEY_BYTES:
            raise ValueError("the nextAfter of the page before")
        return cls(kind.encode(), bytes.fromhex(key) + NAME_ENDS + short_id(id_.encode()))

    def __str__(self) -> str:
        """Kind, sort key and id."""
        key = self.suffix[: -SHORT_ID_BYTES - len(NAME_ENDS)]
        return f"{self.kind.decode()}.{key.hex()}.{id_of(self.suffix)}"


class NamesPage(NamedTuple):
    """Some of the names that match: teachers before classes, each in natural order."""

    found: tuple[tuple[bytes, str], ...]
    """Kind (prefix of the row) and id."""
    next_after: SearchCursor | None
    is_complete: bool
    """False: the search was ended early, so there may be more although the page is not full."""


def names_page(
    copy: LocalCopy, query: Query, kinds: Sequence[bytes], limit: int, after: SearchCursor | None, most_work: int
) -> NamesPage:
    """The first `limit` names of these kinds after the cursor. Without words and schools, all names match."""
    work = Work(most_work)
    found: list[SearchCursor] = []
    for kind in KINDS:
        if kind not in kinds or (after is not None and KINDS.index(kind) < KINDS.index(after.kind)):
            continue
        matches = _Matches(copy, query, kind, work)
        first = after.suffix + b"\0" if after is not None and after.kind == kind else b""
        stopped_at = matches.add_to(found, first, limit + 1)
        if len(found) > limit:
            return NamesPage(_ids(found[:limit]), found[limit - 1], True)
        if stopped_at is not None:
            return NamesPage(_ids(found), SearchCursor(kind, stopped_at), False)
    return NamesPage(_ids(found), None, True)


def _ids(found: Iterable[SearchCursor]) -> tuple[tuple[bytes, str], ...]:
    return tuple((one.kind, id_of(one.suffix)) for one in found)


class _Matches:
    """The names of one kind that match a query."""

    def __init__(self, copy: LocalCopy, query: Query, kind: bytes, work: Work) -> None:
        self._copy = copy
        self._kind = kind
        self._work = work
        self._filters: list[bytes] = []
        self._lists: list[Sorted] = [
            Postings(copy, NAMES_OF_SCHOOL + kind + short_id(id_.encode()), work) for id_ in query.school_ids
        ]
        self._none = False
        self._plan(query.words)

    def add_to(self, found: list[SearchCursor], suffix: bytes, most: int) -> bytes | None:
        """Until there are so many; the last suffix that was looked at if the work is done before, else None."""
        while not self._none and len(found) < most:
            at, is_common = next_common(self._lists, suffix, self._work)
            if at is None:
                return None
            if is_common and self._matches_filters(at):
                found.append(SearchCursor(self._kind, at))
            elif self._work.is_done:
                return at
            suffix = at + b"\0"
        return None

    def _plan(self, words: Sequence[bytes]) -> None:
        begun = [(word, self._words_begun(word)) for word in words[:_MOST_WORDS_EXPANDED]]
        self._none = any(not found for _, found in begun)
        for word, found in begun:
            if len(found) <= _FEW_WORDS:
                self._lists.append(self._union(found))
            else:
                self._filters.append(word)
        self._filters += words[_MOST_WORDS_EXPANDED:]
        if not self._lists and not self._none:
            self._lists.append(self._widest(begun))

    def _widest(self, begun: Sequence[tuple[bytes, list[bytes]]]) -> Sorted:
        """The list for words that begin many: those of the word that begins fewest, or all names."""
        word, found = min(begun, key=lambda one: len(one[1]), default=(b"", []))
        if not found or len(found) > _MANY_WORDS:
            return Postings(self._copy, NAMES + self._kind, self._work)
        self._filters.remove(word)
        return self._union(found)

    def _union(self, words: Iterable[bytes]) -> Sorted:
        lists = [Postings(self._copy, WORDS_OF_NAMES + self._kind + word + WORD_ENDS, self._work) for word in words]
        return lists[0] if len(lists) == 1 else Union(lists)

    def _words_begun(self, beginning: bytes) -> list[bytes]:
        """The different words of names that begin so: all, or one more than a list may have."""
        words = Postings(self._copy, WORDS_OF_NAMES + self._kind, self._work)
        found: list[bytes] = []
        at = words.seek(beginning)
        while at is not None and at.startswith(beginning) and len(found) <= _MANY_WORDS:
            word = at.partition(WORD_ENDS)[0]
            found.append(word)
            at = words.seek(word + b"\x01")
        return found

    def _matches_filters(self, suffix: bytes) -> bool:
        if not self._filters:
            return True
        self._work.done += 2
        words = words_of_key(suffix)
        return words is None or has_all([word.encode() for word in words], self._filters)


def has_all(words: Sequence[bytes], beginnings: Iterable[bytes]) -> bool:
    """Whether each of the beginnings is one of a word."""
    return all(any(word.startswith(beginning) for word in words) for beginning in beginnings)
