"""Values of many rows as SQL text at once, for MySQL. Pure.

aiomysql escapes value by value, which costs as much as all the rest of what is done here for a row.
Almost no chunk of rows has a character that needs it: one look at all of its text tells.
"""

from collections.abc import Sequence

from emis_streams.replica.values import Values

_SPECIAL = "'\"\\\0\n\r\x1a"
"""What MySQL's string literals want escaped, in any of its modes."""
_NULL, _NEXT_VALUE, _NEXT_ROW = "\x1c", "\x1d", "\x1e"


def literal_rows(rows: Sequence[Values]) -> str | None:
    """`('…','…'),('…',NULL)`, or None if there is a character that the driver must escape.

    Numbers are quoted too: a column of numbers takes them so.
    """
    joined = _NEXT_ROW.join([_NEXT_VALUE.join(map(_text, row)) for row in rows])
    if any(special in joined for special in _SPECIAL) or not _is_unambiguous(joined, rows):
        return None
    values = joined.replace(_NEXT_VALUE, "','").replace(_NEXT_ROW, "'),('")
    return f"('{values}')".replace(f"'{_NULL}'", "NULL")


def _text(value: str | int | None) -> str:
    return value if type(value) is str else _NULL if value is None else str(value)


def _is_unambiguous(joined: str, rows: Sequence[Values]) -> bool:
    """Whether the signs that stand between values and for NULL are in no text."""
    n_nulls = sum([row.count(None) for row in rows])
    n_joints = len(rows) * (len(rows[0]) - 1)
    counted = joined.count(_NEXT_ROW), joined.count(_NEXT_VALUE), joined.count(_NULL)
    return counted == (len(rows) - 1, n_joints, n_nulls)
