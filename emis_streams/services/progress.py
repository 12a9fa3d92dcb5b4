"""The progress service: which lessons users have, from the events of others. Its pages answer; it takes no requests."""

from emis_streams.services.service import Service


class ProgressService(Service):
    name = "progress"
    port = 8003
    asks = False
