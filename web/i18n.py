"""The languages of the pages: which one a reader gets, the texts, and how numbers and times are written.

The texts are in `locale/en.json` and `locale/vi.json`: one key, one text, `{names}` for what is
filled in. `{n:class|classes}` is a number with its word, in the singular for exactly one
(`emis_streams.quantities`). A test holds both files to the same keys, and the templates to those keys.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from math import ceil
from pathlib import Path
from typing import Literal, get_args

import msgspec
from markupsafe import Markup, escape

from emis_streams.quantities import Quantity

Language = Literal["vi", "en"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
DEFAULT: Language = "vi"
COOKIE = "lang"
VIETNAM = timezone(timedelta(hours=7))
"""Of the schools: the country has one zone and no summer time."""
_DAYS_IN_WORDS = 31

_FOLDER = Path(__file__).parent / "locale"


def load(language: Language) -> dict[str, str]:
    """The texts of one language by key; raises msgspec.DecodeError if the file is not such a map."""
    return msgspec.json.decode((_FOLDER / f"{language}.json").read_bytes(), type=dict[str, str])


CATALOGUES: dict[Language, dict[str, str]] = {language: load(language) for language in LANGUAGES}


def choose(asked: str | None, remembered: str | None, accepted: str) -> Language:
    """Language by `?lang=`, then by cookie, then by Accept-Language, else Vietnamese."""
    for wish in (asked, remembered, *_by_preference(accepted)):
        for language in LANGUAGES:
            if wish is not None and wish.lower().split("-")[0] == language:
                return language
    return DEFAULT


def _by_preference(accepted: str) -> list[str]:
    """Languages of an Accept-Language header, the most wanted first; what cannot be read is left out."""
    wishes = [(_quality(part), part.split(";")[0].strip()) for part in accepted.split(",")]
    return [name for quality, name in sorted(wishes, key=lambda wish: -wish[0]) if quality > 0]


def _quality(part: str) -> float:
    _, _, text = part.replace(" ", "").partition(";q=")
    try:
        return float(text or "1")
    except ValueError:
        return 0.0


class Texts:
    """Texts, numbers and times of one language, as the templates use them."""

    def __init__(self, language: Language) -> None:
        self.language: Language = language
        self._texts: Mapping[str, str] = CATALOGUES[language]
        self._decimal = "," if language == "vi" else "."
        self._thousands = "." if language == "vi" else ","

    def __call__(self, key: str, /, **values: object) -> str:
        """The text of a key, with its values filled in; raises KeyError for an unknown key."""
        text = self._texts[key]
        return text.format(**values) if values else text

    def html(self, key: str, /, **values: object) -> Markup:
        """The same, where values may be markup (those that are not are escaped)."""
        return Markup(escape(self._texts[key])).format(**values)

    def say(self, key: str, params: Mapping[str, int | float | str], otherwise: str) -> str:
        """What a check or a rule says, with its figures written out; `otherwise` if it is not translated.

        Also if it lacks a figure: the journal of health outlives the version that wrote it.
        """
        if key not in self._texts:
            return otherwise
        quantities = {name: v if isinstance(v, str) else self._quantity(v) for name, v in params.items()}
        try:
            return self._texts[key].format(**quantities)
        except (KeyError, ValueError):  # It is missing, or a text where the text has a number.
            return otherwise

    def has(self, key: str) -> bool:
        return key in self._texts

    def count(self, key: str, n: float, /, **values: object) -> str:
        """The text for n things, where `{n}` is the number."""
        return self(key, n=Quantity(n, self.number(n)), **values)

    def _quantity(self, value: float) -> Quantity:
        return Quantity(value, self.short(value))

    def number(self, value: float | None, digits: int = 0) -> str:
        """A number with the separators of the language; a dash if it is not known."""
        if value is None:
            return "–"
        text = f"{value:,.{digits}f}"
        return text.replace(",", "\0").replace(".", self._decimal).replace("\0", self._thousands)

    def short(self, value: float | None) -> str:
        """A number with as many digits as help: 1,234 · 12.3 · 0.05; a dash if it is not known."""
        if value is None:
            return self.number(None)
        size = abs(value)
        return self.number(value, 0 if size >= 100 or size == int(size) else 1 if size >= 10 else 2)

    def rate(self, value: float | None) -> str:
        """Things per second; a dash if it is not known."""
        return "–" if value is None else self("time.per_second", n=self.short(value))

    def seconds(self, value: float | None) -> str:
        """A duration in the units that fit: 12 ms, 2.3 s, 1 min 4 s, 2 h 30 min, 3 days; a dash if it is not known."""
        if value is None:
            return "–"
        if 0 < value < 1:
            return self("time.ms", n=self.number(value * 1000))
        if value < 60:
            return self("time.s", n=self.number(value, 0 if value >= 10 or value == int(value) else 1))
        for unit, size, smaller, limit in (("time.min", 60, "time.s", 3600), ("time.h", 3600, "time.min", 172_800)):
            if value < limit:
                rest = int(value % size) * 60 // size
                whole = self(unit, n=self.number(value // size))
                return f"{whole} {self(smaller, n=rest)}" if rest else whole
        return self.count("time.days", value // 86_400)

    def seconds_rounded_up(self, value: float) -> str:
        """A duration of which nobody needs fractions of a second: at least one second."""
        return self.seconds(float(max(1, ceil(value))))

    def bytes(self, value: float | None) -> str:
        """An amount of memory in MB or GB."""
        if value is None:
            return "–"
        gigabytes = value / 1024**3
        return f"{self.number(gigabytes, 1)} GB" if gigabytes >= 1 else f"{self.number(value / 1024**2)} MB"

    def ago(self, time: datetime | None, now: datetime) -> str:
        """How long ago, in words; a time ahead of now reads as just now."""
        if time is None:
            return self("time.never")
        age = (now - time).total_seconds()
        return self("time.now") if age < 1 else self("time.ago", span=self.seconds(float(int(age))))

    def ago_in_words(self, time: datetime, now: datetime) -> str:
        """How long ago in one unit, no finer than a minute; after a month the day, as in Vietnam."""
        age = (now - time).total_seconds()
        if age < 60:
            return self("time.now")
        for unit, limit, size in (("min", 3600, 60), ("h", 86_400, 3600)):
            if age < limit:
                return self("time.ago", span=self(f"time.{unit}", n=int(age // size)))
        if age < _DAYS_IN_WORDS * 86_400:
            return self("time.ago", span=self.count("time.days", int(age // 86_400)))
        return self._day(time.astimezone(VIETNAM))

    def moment_in_vietnam(self, time: datetime) -> str:
        """Time of day and date as clocks in Vietnam show it."""
        there = time.astimezone(VIETNAM)
        return f"{there:%H:%M:%S}, {self._day(there)}"

    def _day(self, time: datetime) -> str:
        return f"{time:%d/%m/%Y}" if self.language == "vi" else f"{time.day} {self(f'month.{time.month}')} {time.year}"

    def moment(self, time: datetime) -> str:
        """Date and time of day in UTC."""
        utc = time.astimezone(UTC)
        return f"{self._day(utc)} {utc:%H:%M:%S} UTC"
