"""Who teaches what, by teacherId|assignmentId, in the teacher's partition.

Each assignment is a row with a version of its own: one version over a teacher with all assignments
would lose late ones.
"""

from emis_streams import rows
from emis_streams.app import app
from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.table import Table
from emis_streams.topics import ASSIGNMENTS

assignments: Table = app.Table(
    ASSIGNMENTS.name,
    partitions=app.conf.topic_partitions,
    topics=ASSIGNMENTS.events,
    merge=rows.merged,
    check=ROW_CHECK,
)
