"""Which teacher has an assignment: the pure rule for an assignment id that several teachers' rows have.

The local copies apply it here, the replica's reader in its query (docs/decisions/0022-assignments-that-move.md).
"""

from collections.abc import Mapping

from emis_streams import rows
from emis_streams.rows import BODY_AT, VERSION_BYTES

_TIME = slice(0, 8)
_CREATED = slice(VERSION_BYTES, BODY_AT)


def owner(rows_by_teacher: Mapping[bytes, bytes]) -> bytes | None:
    """Id of the teacher who has the assignment, of all rows of one assignment by teacher id; None if nobody has it.

    The live row of the highest version wins (at equal versions the higher teacher id), unless the assignment had gone
    to another teacher after that row's event, and was deleted there.
    """
    live = [(rows.version_of(row), teacher) for teacher, row in rows_by_teacher.items() if not rows.is_deleted(row)]
    if not live:
        return None
    version, teacher = max(live)
    is_deleted_later = any(
        rows.is_deleted(row) and version[_TIME] < row[_CREATED] < row[_TIME] for row in rows_by_teacher.values()
    )
    return None if is_deleted_later else teacher
