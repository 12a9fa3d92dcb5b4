"""Connections to brokers that say no farewell, as theirs do that hold a fetch."""

import asyncio
import ssl
from typing import Any

import pytest
import trustme
import uvloop
from aiokafka.conn import AIOKafkaConnection

from emis_streams.engine import closing


async def _no_lookup(_connection: AIOKafkaConnection) -> None:
    """The server here answers nothing."""


async def close_one() -> None:
    """Raises TimeoutError."""
    ca = trustme.CA()
    server_context, client_context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    ca.issue_cert("127.0.0.1").configure_cert(server_context)
    ca.configure_trust(client_context)

    standing: list[asyncio.Transport] = []

    def stand_still(_reader: Any, writer: Any) -> None:
        writer.transport.pause_reading()
        standing.append(writer.transport)

    server = await asyncio.start_server(stand_still, "127.0.0.1", 0, ssl=server_context)
    port = server.sockets[0].getsockname()[1]
    connection = AIOKafkaConnection("127.0.0.1", port, security_protocol="SSL", ssl_context=client_context)
    await connection.connect()
    try:
        await asyncio.wait_for(connection.close(), 5.0)
    finally:
        for transport in standing:
            transport.abort()
        server.close()
        await server.wait_closed()


def test_a_connection_over_tls_ends_though_the_broker_says_no_farewell(monkeypatch: pytest.MonkeyPatch) -> None:
    """On uvloop it took 30 s, in which no partition was taken over."""
    monkeypatch.setattr(AIOKafkaConnection, "_do_version_lookup", _no_lookup)
    monkeypatch.setattr(AIOKafkaConnection, "close", AIOKafkaConnection.close)  # As it was, afterwards.
    closing.end_tls_at_once()
    uvloop.run(close_one())
