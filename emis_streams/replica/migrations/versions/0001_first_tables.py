"""The first tables.

MySQL keeps each table as soon as it is made, so what was made before an interruption is passed over. Tables that an
earlier release made get what was added since from `replica/additions.py`.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.CHAR(36).with_variant(mysql.CHAR(36, charset="ascii", collation="ascii_bin"), "mysql")
_TOPIC = sa.String(249).with_variant(mysql.VARCHAR(249, charset="ascii", collation="ascii_bin"), "mysql")
_TIME = sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql")
_VERSION = sa.CHAR(58).with_variant(mysql.CHAR(58, charset="ascii", collation="ascii_bin"), "mysql")
_OPTIONS: dict[str, Any] = {"if_not_exists": True, "mysql_engine": "InnoDB", "mysql_charset": "utf8mb4"}


def _origin() -> list[sa.Column[Any]]:
    return [
        sa.Column("LastSyncedAt", _TIME, nullable=False),
        sa.Column("SyncSource", sa.String(100), nullable=False),
        sa.Column("CreatedAt", _TIME, nullable=False),
        sa.Column("UpdatedAt", _TIME),
        sa.Column("DeletedAt", _TIME),
        sa.Column("SourceEventId", _ID, nullable=False),
        sa.Column("ChangelogPartition", sa.Integer, nullable=False),
        sa.Column("Version", _VERSION, nullable=False),
    ]


def upgrade() -> None:
    op.create_table(
        "ClassInfos",
        sa.Column("Id", _ID, sa.Computed("ClassId", persisted=False)),
        sa.Column("ClassId", _ID, primary_key=True),
        sa.Column("ClassName", sa.String(200)),
        sa.Column("Grade", sa.String(50)),
        sa.Column("AcademicYear", sa.String(20)),
        sa.Column("TotalStudents", sa.Integer),
        sa.Column("SchoolId", _ID),
        sa.Column("HomeroomTeacherId", _ID),
        *_origin(),
        **_OPTIONS,
    )
    op.create_table(
        "Teachers",
        sa.Column("TeacherId", _ID, primary_key=True),
        sa.Column("FullName", sa.String(200)),
        sa.Column("Email", sa.String(254)),
        sa.Column("SchoolId", _ID),
        *_origin(),
        **_OPTIONS,
    )
    op.create_table(
        "TeacherAssignments",
        sa.Column("TeacherId", _ID, primary_key=True),
        sa.Column("AssignmentId", _ID, primary_key=True),
        sa.Column("ClassId", _ID),
        sa.Column("Role", sa.String(50)),
        sa.Column("Subject", sa.String(100)),
        *_origin(),
        **_OPTIONS,
    )
    op.create_table(
        "ReplicaPositions",
        sa.Column("Topic", _TOPIC, primary_key=True),
        sa.Column("Partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("NextOffset", sa.BigInteger, nullable=False),
        sa.Column("TopicId", sa.String(64), nullable=False),
        sa.Column("WrittenOffset", sa.BigInteger),
        **_OPTIONS,
    )
    _create_index("ix_ClassInfos_HomeroomTeacherId", "ClassInfos", "HomeroomTeacherId")
    _create_index("ix_TeacherAssignments_AssignmentId", "TeacherAssignments", "AssignmentId")


def _create_index(name: str, table: str, column: str) -> None:
    """(MySQL knows no CREATE INDEX IF NOT EXISTS.)"""
    if not op.get_context().as_sql:
        existing = sa.inspect(op.get_bind()).get_indexes(table)
        if name in {index["name"] for index in existing}:
            return
    op.create_index(name, table, [column])


def downgrade() -> None:
    for table in ("ReplicaPositions", "TeacherAssignments", "Teachers", "ClassInfos"):
        op.drop_table(table)
