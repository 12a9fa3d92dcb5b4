"""What is known of each teacher, by TeacherId."""

from emis_streams import rows
from emis_streams.app import app
from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.table import Table
from emis_streams.topics import TEACHERS

teachers: Table = app.Table(
    TEACHERS.name,
    partitions=app.conf.topic_partitions,
    topics=TEACHERS.events,
    merge=rows.merged,
    check=ROW_CHECK,
)
