"""What an error of the database means: this row, the schema, or the database as a whole.

A row that the database refuses is set aside, and its neighbours go on. Everything else that the
database says is waited out: a replica that cannot write must never stop ingestion, and health shows
the reason. Only errors that are none of the database's end the process.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from emis_streams.errors import Unavailable

_OF_A_ROW = frozenset(
    {
        1264,  # out of range
        1292,  # incorrect value
        1300,  # invalid character string
        1366,  # incorrect value for column
        1406,  # data too long
        1690,  # value out of range
        3819,  # check constraint (MySQL)
        4025,  # check constraint (MariaDB)
    }
)
_OF_THE_SCHEMA = frozenset({1054, 1146})
"""Unknown column, no such table: emptied, or restored from before a migration."""
_SQLITE_SCHEMA = ("no such table", "no such column", "has no column named")


class Fault(Enum):
    ROW = auto()
    SCHEMA = auto()
    AWAY = auto()
    OURS = auto()


def fault_of(error: BaseException) -> Fault:
    """Which of them an error is."""
    if isinstance(error, (OverflowError, UnicodeEncodeError)):
        return Fault.ROW  # raised by drivers while they prepare a value
    if isinstance(error, (OSError, TimeoutError, PoolTimeoutError)):
        return Fault.AWAY
    if not isinstance(error, DBAPIError):
        return Fault.OURS
    code = _code(error)
    if code in _OF_THE_SCHEMA or any(sign in str(error.orig) for sign in _SQLITE_SCHEMA):
        return Fault.SCHEMA
    if code in _OF_A_ROW or isinstance(error, (DataError, IntegrityError)):
        return Fault.ROW
    if isinstance(error, InterfaceError) and not error.connection_invalidated:
        return Fault.OURS
    return Fault.AWAY


def reason_of(error: BaseException) -> str:
    """What the database said, in one line."""
    said = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    if isinstance(said, TimeoutError) and not said.args:
        return "no answer in time"
    text = ": ".join(str(part) for part in said.args) or type(said).__name__
    return " ".join(text.split())


def _code(error: DBAPIError) -> int | None:
    args = getattr(error.orig, "args", ())
    return args[0] if args and isinstance(args[0], int) else None


@asynccontextmanager
async def waited_for(what: str) -> AsyncIterator[None]:
    """Errors of the database within are raised as Unavailable; `what` is what was to be done."""
    try:
        yield
    except (SQLAlchemyError, OSError, TimeoutError) as error:
        if fault_of(error) is Fault.OURS:
            raise
        raise Unavailable(f"{what}: {reason_of(error)}") from error
