"""Query parameters: each handler declares those that it takes, and one parser reads them for all routes.

A parameter that is not declared, is given twice, or is not exactly what it may be gets 400, and a problem that names
it and what is allowed: a typing error is never taken for the default.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import wraps
from typing import Any, Generic, TypeVar

from aiohttp import web

from emis_streams.class_list import DEFAULT_LIMIT, MOST_LIMIT, Cursor
from emis_streams.ids import canonical_id
from web.problems import Handler

Value = TypeVar("Value")

DECLARED = "parameters"
"""Attribute of a handler: its Parameters."""
HAS_PAGE = "has_page"
"""Attribute of a handler: whether it takes `lang`, so that what it answers can be a page, by the Accept header."""
_GIVEN: web.RequestKey[dict[str, Any]] = web.RequestKey("given_parameters", dict)
_SHOWN_CHARACTERS = 40
_WHOLE_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
"""One spelling for each number: no sign, space, leading zero, separator or digit of another script."""


class BadParameter(ValueError):
    """The text names the parameter and says what is allowed."""


@dataclass(frozen=True)
class Parameter(Generic[Value]):
    """Of a query. `read` raises ValueError for a text that is not `allowed`."""

    name: str
    read: Callable[[str], Value]
    allowed: str
    """For people, after "allowed:"."""
    default: Value

    def of(self, request: web.Request) -> Value:
        """What a request gives, or the default; only in handlers that declare the parameter (`takes`)."""
        if not request.rel_url.raw_query_string:
            return self.default
        value: Value = request[_GIVEN][self.name]
        return value


def whole_number(name: str, least: int, most: int, default: int) -> Parameter[int]:
    """A decimal number without leading zeros."""

    def read(text: str) -> int:
        if not _WHOLE_NUMBER.fullmatch(text) or not least <= int(text) <= most:
            raise ValueError(text)
        return int(text)

    return Parameter(name, read, f"a whole number from {least} to {most}", default)


def one_of(name: str, texts: Iterable[str], default: str) -> Parameter[str]:
    """One of some texts."""
    allowed = tuple(texts)

    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(text)
        return text

    return Parameter(name, read, " or ".join(allowed), default)


def row_id(name: str) -> Parameter[str | None]:
    """The id of a row, in any usual form."""

    def read(text: str) -> str | None:
        found = canonical_id(text)
        if found is None:
            raise ValueError(text)
        return found

    return Parameter(name, read, "a UUID, as nextAfter has it", None)


def text_up_to(name: str, most_characters: int) -> Parameter[str]:
    """Any text that is not longer; blanks around it are left out."""

    def read(text: str) -> str:
        if len(text) > most_characters:
            raise ValueError(text)
        return text.strip()

    return Parameter(name, read, f"a text of up to {most_characters} characters", "")


def any_text(name: str) -> Parameter[str]:
    """Whatever is given: the handler says what becomes of it."""
    return Parameter(name, str, "any text", "")


LANG = any_text("lang")
"""Of pages. What is no language of ours is passed over, as in Accept-Language."""
CLASSES_LIMIT = whole_number("limit", 1, MOST_LIMIT, DEFAULT_LIMIT)
CLASSES_AFTER: Parameter[Cursor | None] = Parameter("after", Cursor.of, "the nextAfter of the page before", None)


def takes(*parameters: Parameter[Any]) -> Callable[[Handler], Handler]:
    """Decorator of a handler: it takes these parameters and no others (below the decorator of its route)."""

    def declare(handler: Handler) -> Handler:
        @wraps(handler)
        async def checked(request: web.Request) -> web.StreamResponse:
            if request.rel_url.raw_query_string:
                request[_GIVEN] = _given(request, parameters)
            return await handler(request)

        setattr(checked, DECLARED, parameters)
        setattr(checked, HAS_PAGE, LANG in parameters)
        return checked

    return declare


def _given(request: web.Request, parameters: tuple[Parameter[Any], ...]) -> dict[str, Any]:
    try:
        return read(request.query.items(), parameters)
    except BadParameter as error:
        raise web.HTTPBadRequest(text=str(error)) from None


def read(given: Iterable[tuple[str, str]], parameters: Iterable[Parameter[Any]]) -> dict[str, Any]:
    """The value of every parameter: as given, or the default. Raises BadParameter."""
    declared = {parameter.name: parameter for parameter in parameters}
    found: dict[str, Any] = {}
    for name, text in given:
        if name not in declared:
            raise BadParameter(f"parameter {_shown(name)} is not known here; allowed: {_names(declared)}")
        if name in found:
            raise BadParameter(f"parameter {name!r} is given more than once; allowed: {declared[name].allowed}, once")
        found[name] = _value(declared[name], text)
    return {name: parameter.default for name, parameter in declared.items()} | found


def _value(parameter: Parameter[Any], text: str) -> Any:
    try:
        return parameter.read(text)
    except ValueError:
        raise BadParameter(f"parameter {parameter.name!r} is {_shown(text)}; allowed: {parameter.allowed}") from None


def _names(declared: Mapping[str, Parameter[Any]]) -> str:
    return ", ".join(declared) or "none"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]!r}… ({len(text)} characters)"
