"""Connections that wait while the loop is busy are accepted within a few of its turns, not one in each."""

import asyncio
import socket
from contextlib import ExitStack

import uvloop
from aiohttp import web

from emis_streams.engine.web import Site

WAITING = 96
TURNS = 16


async def accepted_in_a_few_turns() -> int:
    runner = web.AppRunner(web.Application())
    await runner.setup()
    try:
        await Site(runner, "127.0.0.1", 0, backlog=WAITING).start()
        address = runner.addresses[0]
        with ExitStack() as clients:
            for _ in range(WAITING):  # The system takes them; the loop knows nothing of them yet.
                clients.enter_context(socket.create_connection(address, timeout=5))
            for _ in range(TURNS):
                await asyncio.sleep(0)
            assert runner.server is not None
            return len(runner.server.connections)
    finally:
        await runner.cleanup()


def test_connections_that_wait_are_accepted_many_at_a_time() -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        assert loop.run(accepted_in_a_few_turns()) == WAITING


def test_what_listens_listens_no_more_after_it_is_stopped() -> None:
    async def listen_and_stop() -> tuple[str, int]:
        runner = web.AppRunner(web.Application())
        await runner.setup()
        await Site(runner, "127.0.0.1", 0).start()
        address: tuple[str, int] = runner.addresses[0]
        await runner.cleanup()
        return address

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        address = loop.run(listen_and_stop())
    with socket.socket() as client:
        assert client.connect_ex(address) != 0
