"""What RocksDB says of a database on disk, told apart: by its text, as rocksdict raises bare Exceptions."""

import errno
import logging
import os
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from emis_streams.engine.hints import Hint, hint

logger = logging.getLogger(__name__)

_IN_USE = ("While lock file", "lock hold by current process")
_DAMAGED = ("Corruption",)
_INCOMPLETE = ("No such file or directory",)
"""Missing files: a folder whose deletion was cut short lacks such."""
_UNUSABLE = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EMFILE))


class DatabaseError(RuntimeError):
    """Its text says all that an operator needs: where in the code that was met is nobody's concern."""


class InUse(DatabaseError):
    """Another process has the database open."""


class Damaged(DatabaseError):
    """Something in an open database turned out to be damaged: it was set aside, the next one begins anew."""


class Unusable(DatabaseError):
    """The disk is full or may not be written, or no more files can be opened."""


class OtherCluster(DatabaseError):
    """What is on disk belongs to another cluster than the brokers that are asked."""


def is_damage(error: Exception) -> bool:
    return any(text in str(error) for text in _DAMAGED)


def is_unreadable(error: Exception) -> bool:
    """Whether a database cannot be opened for what is in its files, or for files that it lacks."""
    return any(text in str(error) for text in (*_DAMAGED, *_INCOMPLETE))


def told(path: Path, error: Exception) -> Exception:
    """The error in words of ours; itself if there are none."""
    said = str(error)
    if any(text in said for text in _IN_USE):
        return InUse(f"{path} is in use by another worker: {hint(Hint.FOLDER_IN_USE)}")
    reason = next((text for text in _UNUSABLE if text in said), None)
    if reason is not None:
        return Unusable(f"{path} cannot be used: {reason}; nothing is lost, a worker that is started later goes on")
    return error


def set_aside(path: Path, reason: str) -> None:
    """Renames the folder, open or not; what was set aside before is replaced."""
    broken = path.with_name(f"{path.name}.corrupt")
    logger.error("%s cannot be read (%s): set aside as %s, begun anew", path, reason, broken)
    shutil.rmtree(broken, ignore_errors=True)
    path.rename(broken)


class OnDisk:
    """A database in a folder of its own."""

    path: Path
    on_damage: Callable[[Damaged], None] | None = None
    """Told before Damaged is raised: whoever catches that cannot go on, as what is open was set aside."""


Kept = TypeVar("Kept", bound=OnDisk)
Given = ParamSpec("Given")
Answer = TypeVar("Answer")


def checked(method: Callable[Concatenate[Kept, Given], Answer]) -> Callable[Concatenate[Kept, Given], Answer]:
    """A method of a database that raises DatabaseErrors. What turns out to be damaged is set aside at once.

    RocksDB reads blocks when they are needed: opening says nothing of most of them.
    """

    def call(self: Kept, /, *args: Given.args, **kwargs: Given.kwargs) -> Answer:
        try:
            return method(self, *args, **kwargs)
        except DatabaseError:
            raise
        except Exception as error:
            if is_damage(error):
                set_aside(self.path, str(error))
                damaged = Damaged(f"{self.path} is damaged and set aside: the next start begins it anew")
                if self.on_damage is not None:
                    self.on_damage(damaged)
                raise damaged from error
            raise told(self.path, error) from error

    return wraps(method)(call)
