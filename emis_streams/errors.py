"""The two errors that rule the flow of events, and the one that stops start-up."""

import msgspec

UNREADABLE_JSON = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)
"""What reading a stranger's JSON can raise: no JSON, of another type, bytes that are not UTF-8, nested too deep."""


class InvalidEvent(Exception):
    """This record can never be used: dead-letter it and go on with its neighbours."""


class Unavailable(Exception):
    """A service cannot be reached now: wait for it, keep everything, try again."""


class InUse(Unavailable):
    """A folder or a file belongs to another running process; the text names both and the way out."""


class InvalidSetting(Exception):
    """A setting has a value that is not allowed; the text names variable, value and what is allowed."""
