"""Background tasks of aiokafka's clients: whether all of them still run.

They send, fetch, keep the membership and refresh metadata. One that has ended tells nobody: its client takes what it
is given, and waits for ever. Restarting the process is what clears it, so the watchdog ends it (`watchdog.py`).
"""

import asyncio
import threading
import weakref
from collections.abc import Iterator
from typing import Any, TypeAlias

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

Client: TypeAlias = AIOKafkaConsumer | AIOKafkaProducer

_OF_COORDINATOR = ("_coordination_task", "_reset_committed_task")
_MAY_END = ("_heartbeat_task", "_commit_refresh_task")
"""These end with each rebalance: only with an error that is wrong."""

_lock = threading.Lock()
_watched: tuple["weakref.ref[Client]", ...] = ()
"""Replaced, never changed: clients live on two threads, and the watchdog looks from a third."""


def watch(client: Client) -> None:
    """From now on, until `forget`: a client that has started."""
    global _watched
    with _lock:
        _watched = (*(ref for ref in _watched if ref() is not None), weakref.ref(client))


def forget(client: Client) -> None:
    """The client is about to be stopped."""
    global _watched
    with _lock:
        _watched = tuple(ref for ref in _watched if ref() not in (None, client))


def ended_task() -> str | None:
    """One that has ended though its client was not stopped, with the reason; None if all of them run."""
    for ref in _watched:
        client = ref()
        if client is None or client._closed:
            continue
        for name, task, may_end in _tasks_of(client):
            reason = _end_of(task, may_end=may_end)
            if reason is not None:
                return f"the {name} of a Kafka {_kind(client)} has ended: {reason}"
    return None


def _tasks_of(client: Client) -> Iterator[tuple[str, "asyncio.Task[Any] | None", bool]]:
    """Name, task, and whether it may end by itself."""
    if isinstance(client, AIOKafkaProducer):
        yield "sender task", client._sender._sender_task, False
        yield "metadata task", client.client._sync_task, False
        return
    yield "metadata task", client._client._sync_task, False
    yield "fetching task", client._fetcher and client._fetcher._fetch_task, False
    for name in (*_OF_COORDINATOR, *_MAY_END):
        task = getattr(client._coordinator, name, None)
        yield name.strip("_").replace("_", " "), task, name in _MAY_END


def _end_of(task: "asyncio.Task[Any] | None", *, may_end: bool) -> str | None:
    if task is None or not task.done():
        return None
    if task.cancelled():
        return None if may_end else "it was cancelled"
    error = task.exception()
    if error is None:
        return None if may_end else "without an error"
    return repr(error.__cause__ or error)


def _kind(client: Client) -> str:
    return "producer" if isinstance(client, AIOKafkaProducer) else "consumer"
