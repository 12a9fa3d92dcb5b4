"""What each user did, by userId|eventId, in the user's partition."""

from emis_streams import rows
from emis_streams.app import app
from emis_streams.changelog_rows import ROW_CHECK
from emis_streams.engine.table import Table
from emis_streams.topics import ACTIVITY

activity: Table = app.Table(
    ACTIVITY.name,
    partitions=app.conf.topic_partitions,
    topics=ACTIVITY.events,
    merge=rows.merged,
    check=ROW_CHECK,
)
