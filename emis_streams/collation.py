"""How names are compared: folded words to search by, and keys that sort as a Vietnamese reader expects.

Folding ignores case, accents and Đ (`Đỗ Hồng` has the words `do` and `hong`); words are split at what is no letter or
digit. Sort keys compare word by word in the Vietnamese alphabet (a ă â b c d đ e ê …; of equal letters, the tone
decides), and numbers by value (6A1, 10A2, 10A10). Pure.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

MOST_KEY_BYTES = 120
"""Of a sort key. Names that are equal so far are in no order."""
MOST_WORD_BYTES = 40
"""Of a folded word; what comes after is ignored, in names and in queries."""
NAME_ENDS = b"\x01"
_ZERO = "\x0f"
"""After a number, for each zero that it begins with."""
_WORD = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+")
_NUMBER = re.compile(r"[0-9]+")
_NUMBER_KEY = re.compile(r"[!-/]([0-9]+)(\x0f*)")
_D_WITH_STROKE = "đðɖ"
"""The capitals of all three look alike: the others, of Icelandic and Ewe, are often typed for the first."""
_SECOND_LETTERS = {"a\u0306": "{", "a\u0302": "|", "e\u0302": "{", "o\u0302": "{", "o\u031b": "|", "u\u031b": "{"}
"""ă â ê ô ơ ư: letters that come after the one without a mark. `{` and `|` sort behind all ASCII letters."""
_TONES = {"\u0300": 1, "\u0309": 2, "\u0303": 3, "\u0301": 4, "\u0323": 5}
"""huyền, hỏi, ngã, sắc, nặng; 0 is ngang."""
_LEVEL_TONE = 3
"""Each word of a key ends with the byte of its tone, which sorts before all letters and digits."""
_WORD_ENDS = re.compile("[\x03-\x08]")
_LONGEST_NUMBER = 15


class Collated(NamedTuple):
    """A name, ready to be compared."""

    words: tuple[bytes, ...]
    """Folded and different from each other, in their order."""
    sort_key: bytes


class _Word(NamedTuple):
    folded: str
    key: str


@lru_cache(maxsize=1 << 14)
def collated(text: str) -> Collated:
    """The words and the sort key of a name; a name without letters and digits has no words, and sorts first."""
    words = [_word(word) for word in _split(text)]
    key = "".join([word.key for word in words]).encode()[:MOST_KEY_BYTES]
    folded = dict.fromkeys([word.folded.encode()[:MOST_WORD_BYTES] for word in words])
    return Collated(tuple(folded), key + NAME_ENDS)


def sort_key(text: str) -> bytes:
    """Sorts names in natural order."""
    return collated(text).sort_key


def words_of_key(key: bytes) -> list[str] | None:
    """The folded words of the name that has this sort key; None if the key does not hold all of them."""
    letters = key.partition(NAME_ENDS)[0]
    if len(letters) >= MOST_KEY_BYTES:
        return None
    text = _NUMBER_KEY.sub(lambda found: "0" * len(found[2]) + found[1], letters.decode())
    return _WORD_ENDS.split(text.replace("{", "").replace("|", ""))[:-1]


def _split(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold()))


@lru_cache(maxsize=1 << 13)
def _word(word: str) -> _Word:
    folded: list[str] = []
    key: list[str] = []
    tone = 0
    for character in unicodedata.normalize("NFD", word):
        if unicodedata.combining(character):
            key.append(_SECOND_LETTERS.get(folded[-1] + character, ""))
            tone = _TONES.get(character, tone)
        elif character in _D_WITH_STROKE:
            folded.append("d")
            key += "d{"
        else:
            folded.append(character)
            key.append(character)
    return _Word("".join(folded), _NUMBER.sub(_number_key, "".join(key)) + chr(_LEVEL_TONE + tone))


def _number_key(found: re.Match[str]) -> str:
    """Shorter numbers come first, if zeros at the beginning are left out."""
    digits = found[0].lstrip("0") or "0"
    return f"{chr(0x20 + min(len(digits), _LONGEST_NUMBER))}{digits}{_ZERO * (len(found[0]) - len(digits))}"
