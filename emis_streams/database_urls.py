"""URLs of databases: mysql://user:password@host:port/name, or sqlite:///path of a file."""

from sqlalchemy import make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from emis_streams.errors import InvalidSetting
from emis_streams.secret_urls import masked

_HIGHEST_PORT = 65_535
_ALLOWED = "write mysql://user:password@host:3306/name, or sqlite:///path of a file"


def parse(database_url: str, variable: str = "DATABASE_URL") -> URL:
    """The URL, checked; raises InvalidSetting, which names the variable and shows no password."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        raise InvalidSetting(_refusal(database_url, variable, "it is no URL, or its port is no number")) from None
    if mistake := _mistake(url):
        raise InvalidSetting(_refusal(database_url, variable, mistake))
    return url


def _mistake(url: URL) -> str | None:
    if url.get_backend_name() not in ("mysql", "sqlite"):
        return "it starts with neither mysql:// nor sqlite://"
    if not url.database or url.database == ":memory:":
        return "it names no database"
    if url.get_backend_name() == "sqlite" and url.database.lower().startswith("file:"):
        return "it names a file by a URI of SQLite"
    if "@" in (url.host or ""):
        return "there is more than one @; write one that is part of user or password as %40"
    if url.port is not None and not 1 <= url.port <= _HIGHEST_PORT:
        return f"its port is none from 1 to {_HIGHEST_PORT:,}"
    if url.get_backend_name() == "sqlite" and (url.host or url.username):
        return "a file has three slashes before its path, or four before one from the root"
    return None


def _refusal(database_url: str, variable: str, mistake: str) -> str:
    return f"{variable}={masked(database_url)!r} is not allowed: {mistake}; {_ALLOWED}"
