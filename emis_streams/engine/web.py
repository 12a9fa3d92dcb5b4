"""Faust's web driver, behind a door."""

import asyncio
import os
import socket
from typing import cast

from aiohttp.web import BaseSite, SockSite, TCPSite
from faust.web.drivers import aiohttp

from emis_streams.engine.door import DOOR, Runner

_BACKLOG = 1_024
"""Connections that the system keeps while the loop is busy; with aiohttp's 128 clients would wait a second for more."""
_ACCEPTED_PER_TURN = 16
"""libuv accepts one connection of a listening socket in each turn of the loop: some forty a second under load."""


class Site(TCPSite):
    """Listens by several descriptors of one socket, each of which gets its connection in a turn of the loop."""

    async def start(self) -> None:
        await super().start()
        for listening in cast(asyncio.Server, self._server).sockets:
            for _ in range(_ACCEPTED_PER_TURN - 1):
                same = socket.socket(fileno=os.dup(listening.fileno()))
                await SockSite(self._runner, same, ssl_context=self._ssl_context, backlog=self._backlog).start()


class Web(aiohttp.Web):
    async def start_server(self) -> None:
        if DOOR in self.web_app:
            self._runner = Runner(self.web_app)
        self.drop_idle_cors()
        await super().start_server()

    def drop_idle_cors(self) -> None:
        """Removes the signal of Faust's CORS, 1.3 µs of each answer, if no route has declared any."""
        cors = self.cors._cors_impl
        if not cors._router_adapter._resource_config:
            self.web_app.on_response_prepare.remove(cors._on_response_prepare)

    def _new_transport_tcp(self) -> BaseSite:
        conf = self.app.conf
        return Site(self._runner, conf.web_bind, conf.web_port, ssl_context=conf.web_ssl_context, backlog=_BACKLOG)
