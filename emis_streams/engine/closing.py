"""Connections to the brokers over TLS that end at once.

uvloop waits for the other side's farewell, up to 30 s, which no broker says while it holds a fetch: for so long a
worker took over partitions, or stopped. Nothing is lost by not waiting: what is closed has been answered before, or
is not waited for any more (aiokafka flushes producers and leaves groups first).
"""

from typing import Any

from aiokafka.conn import AIOKafkaConnection

_close = AIOKafkaConnection.close


def end_tls_at_once() -> None:
    """From now on, in this process. May be called again."""
    AIOKafkaConnection.close = _close_at_once


def _close_at_once(connection: Any, reason: Any = None, exc: Any = None) -> Any:
    writer = connection._writer
    closed = _close(connection, reason, exc)
    if writer is not None and writer.get_extra_info("sslcontext") is not None:
        writer.transport.abort()
    return closed
