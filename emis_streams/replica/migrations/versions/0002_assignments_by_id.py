"""An index on AssignmentId: the reader looks for later owners of an assignment."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_INDEX, _TABLE = "ix_TeacherAssignments_AssignmentId", "TeacherAssignments"


def upgrade() -> None:
    """MySQL keeps the index as soon as it is made; after an interruption it may be there already."""
    if not op.get_context().as_sql:
        existing = sa.inspect(op.get_bind()).get_indexes(_TABLE)
        if _INDEX in {index["name"] for index in existing}:
            return
    op.create_index(_INDEX, _TABLE, ["AssignmentId"])


def downgrade() -> None:
    op.drop_index(_INDEX, _TABLE)
