"""The replica's tables, the same on MySQL 8, MariaDB and SQLite.

`ClassInfos` has the columns that it had before there was a changelog (Id … UpdatedAt), so that what
reads it goes on to work; the rest says which event a row comes from. Rules that hold for all tables:

- Only the key may conflict in an upsert. `ON DUPLICATE KEY UPDATE` updates whatever row *any* unique
  index hits, so there is no second one: `Id` is computed from `ClassId` and cannot differ from it.
- Ids and versions compare as bytes, never by a language's rules.
- Times are UTC and come from the row or the changelog record, never from the database's clock; so a
  replica that is filled again is the same replica.
- `UpdatedAt` is the time of the event that the row comes from, null while that is the one that
  created it. A delete is a change too; `DeletedAt` then has the same time, and the data is null.
"""

from typing import Any

from sqlalchemy import CHAR, BigInteger, Column, Computed, Index, Integer, MetaData, String, Table
from sqlalchemy.dialects import mysql

from emis_streams import rows, topics
from emis_streams.columns import ID, OPTIONS, TIME

metadata = MetaData()

NAME = String(249).with_variant(mysql.VARCHAR(249, charset="ascii", collation="ascii_bin"), "mysql")
"""A topic's name."""
VERSION = CHAR(2 * rows.VERSION_BYTES).with_variant(
    mysql.CHAR(2 * rows.VERSION_BYTES, charset="ascii", collation="ascii_bin"), "mysql"
)
"""The version's 29 bytes in lower-case hexadecimal, which sorts as the bytes do.

Text and not BINARY(29): with PyMySQL from 1.2.3 on, aiomysql 0.3.2 cannot send bytes (aiomysql issue
1080); and so it is the same text as in the JSON, readable in every SQL client.
"""


def _origin() -> list[Column[Any]]:
    """Where a row comes from. `Version` is last: see `statements.upsert`."""
    return [
        Column("LastSyncedAt", TIME, nullable=False),
        Column("SyncSource", String(100), nullable=False),
        Column("CreatedAt", TIME, nullable=False),
        Column("UpdatedAt", TIME),
        Column("DeletedAt", TIME),
        Column("SourceEventId", ID, nullable=False),
        Column("ChangelogPartition", Integer, nullable=False),
        Column("Version", VERSION, nullable=False),
    ]


class_infos = Table(
    "ClassInfos",
    metadata,
    Column("Id", ID, Computed("ClassId", persisted=False)),
    Column("ClassId", ID, primary_key=True),
    Column("ClassName", String(200)),
    Column("Grade", String(50)),
    Column("AcademicYear", String(20)),
    Column("TotalStudents", Integer),
    Column("SchoolId", ID),
    Column("HomeroomTeacherId", ID, index=True),
    *_origin(),
    **OPTIONS,
)

teachers = Table(
    "Teachers",
    metadata,
    Column("TeacherId", ID, primary_key=True),
    Column("FullName", String(200)),
    Column("Email", String(254)),
    Column("SchoolId", ID),
    *_origin(),
    **OPTIONS,
)

teacher_assignments = Table(
    "TeacherAssignments",
    metadata,
    Column("TeacherId", ID, primary_key=True),
    Column("AssignmentId", ID, primary_key=True, index=True),
    Column("ClassId", ID),
    Column("Role", String(50)),
    Column("Subject", String(100)),
    *_origin(),
    Index("ix_TeacherAssignments_TeacherId_ClassId", "TeacherId", "ClassId", "AssignmentId"),
    **OPTIONS,
)

replica_positions = Table(
    "ReplicaPositions",
    metadata,
    Column("Topic", NAME, primary_key=True),
    Column("Partition", Integer, primary_key=True, autoincrement=False),
    Column("NextOffset", BigInteger, nullable=False),
    Column("TopicId", String(64), nullable=False),
    Column("WrittenOffset", BigInteger),
    **OPTIONS,
)
"""How far each partition of a changelog was followed: the truth about that, beside the rows.

`WrittenOffset` is the same offset. Writers of 0.1.0 do not know it and leave it behind: what they wrote since is
written again, as they read event ids of rows of format 2 wrongly (docs/decisions/0017-ties.md).
"""

TABLES: dict[topics.Subject, Table] = {
    topics.CLASSES: class_infos,
    topics.TEACHERS: teachers,
    topics.ASSIGNMENTS: teacher_assignments,
}
BY_CHANGELOG: dict[str, topics.Subject] = {subject.changelog: subject for subject in topics.SUBJECTS}
