"""The folder that DATA_DIR names: only its owner may look into it."""

import os
from pathlib import Path

from emis_streams.errors import InvalidSetting

_OWNER_ONLY = 0o700
_NOT_FOR_OTHERS = 0o077


def keep_private() -> None:
    """Whatever this process and its children make from now on: folders of mode 700, files of mode 600."""
    os.umask(_NOT_FOR_OTHERS)


def make(path: Path) -> None:
    """Makes the folder if it is missing, of mode 700; raises InvalidSetting if it cannot be made or written to."""
    try:
        path.mkdir(mode=_OWNER_ONLY, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidSetting(f"DATA_DIR={str(path)!r} is not allowed: it cannot be made: {error.strerror}") from None
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        raise InvalidSetting(f"DATA_DIR={str(path)!r} is not allowed: this user may not write to it")
