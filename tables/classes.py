"""What is known of each class, by ClassId."""

from emis_streams import rows
from emis_streams.app import app
from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.table import Table
from emis_streams.topics import CLASSES

classes: Table = app.Table(
    CLASSES.name,
    partitions=app.conf.topic_partitions,
    topics=CLASSES.events,
    merge=rows.merged,
    check=ROW_CHECK,
)
