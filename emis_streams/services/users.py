"""The users service: what users did, from the events of others. Its pages answer; it takes no requests."""

from emis_streams.services.service import Service


class UserService(Service):
    name = "users"
    port = 8001
    asks = False
