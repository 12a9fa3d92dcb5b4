"""The agents: a slice of events is decoded, folded, kept, and done once the brokers have it all."""

from emis_streams import settings
from emis_streams.app import app
from emis_streams.ingest import Ingest

ingest = Ingest(app, settings.current().max_event_ahead_seconds)
"""What the agents count, and their way to the dead letters."""
