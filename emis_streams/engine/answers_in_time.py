"""Brokers that take questions and never answer: they stand still, or what goes over the network vanishes.

aiokafka has one time-out for everything, which joining a group needs to be long. For that long a client
would ask nobody else: no metadata, no coordinator, and (it makes one connection at a time) no other
connection. So each kind of request gets its own time.
"""

from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import JoinGroupRequest, SyncGroupRequest

_FETCH_SECONDS = 20.0
"""A long answer over a slow line takes its time."""


def limit_answers(client: AIOKafkaClient, seconds: float) -> None:
    """Every answer has to come within so many seconds, but for records, and a join, which waits for all members."""
    join_seconds = client._request_timeout_ms / 1000
    client._request_timeout_ms = round(1000 * seconds)
    get_conn = client._get_conn
    limited = "_answers_limited"

    def seconds_for(request: Any) -> float:
        if isinstance(request, JoinGroupRequest | SyncGroupRequest):
            return join_seconds
        return min(join_seconds, _FETCH_SECONDS) if isinstance(request, FetchRequest) else seconds

    def limit(connection: Any) -> None:
        send = connection.send

        def send_within(request: Any, expect_response: bool = True) -> Any:
            connection._request_timeout = seconds_for(request)  # Read while sending.
            return send(request, expect_response)

        connection.send = send_within
        setattr(connection, limited, True)

    async def get_limited_conn(*args: Any, **kwargs: Any) -> Any:
        connection = await get_conn(*args, **kwargs)
        if connection is not None and not hasattr(connection, limited):
            limit(connection)
        return connection

    client._get_conn = get_limited_conn
