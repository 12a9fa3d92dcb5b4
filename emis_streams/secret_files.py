"""Secrets from files: what only the service's own user, and at most its group, may read."""

import stat
from pathlib import Path

from emis_streams.errors import InvalidSetting

_FOREIGN_ACCESS = stat.S_IWGRP | stat.S_IXGRP | stat.S_IRWXO
"""Of a group, reading only: secrets that an orchestrator mounts belong to the pod's group."""


class Secret(str):
    """A text that does not show when what holds it is shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


def read_secret(variable: str, path: str) -> str:
    """The file's text without the line end; raises InvalidSetting, which never tells the content."""
    check_private(variable, path)
    text = readable(variable, path).decode("utf-8", "replace").rstrip("\r\n")
    if not text:
        raise InvalidSetting(f"{variable}={path!r} is not allowed: the file is empty")
    return text


def check_private(variable: str, path: str) -> None:
    """Raises InvalidSetting if others than the user, or for writing its group, may touch the file."""
    readable(variable, path)
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & _FOREIGN_ACCESS:
        raise InvalidSetting(
            f"{variable}={path!r} is not allowed: its mode is {mode:04o}, others can read it; chmod 600"
        )


def readable(variable: str, path: str) -> bytes:
    """The file's bytes; raises InvalidSetting."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidSetting(f"{variable}={path!r} is not allowed: it cannot be read: {error.strerror}") from None
