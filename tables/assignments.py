"""Who teaches what, by teacherId|assignmentId in the teacher's partition: each assignment is its own row with its own version, else one late event would cost a teacher the others."""

from emis_streams import rows
from emis_streams.app import app
from emis_streams.engine.table import Table
from emis_streams.topics import ASSIGNMENTS

assignments: Table = app.Table(
    ASSIGNMENTS.name,
    partitions=app.conf.topic_partitions,
    topics=ASSIGNMENTS.events,
    wins=rows.wins,
)
