"""Faust's web driver, behind a door."""

from aiohttp.web import BaseSite, TCPSite
from faust.web.drivers import aiohttp

from emis_streams.engine.door import DOOR, Runner

_BACKLOG = 1_024
"""Connections that the system keeps while the loop is busy; with aiohttp's 128 clients would wait a second for more."""


class Web(aiohttp.Web):
    async def start_server(self) -> None:
        if DOOR in self.web_app:
            self._runner = Runner(self.web_app)
        await super().start_server()

    def _new_transport_tcp(self) -> BaseSite:
        conf = self.app.conf
        return TCPSite(self._runner, conf.web_bind, conf.web_port, ssl_context=conf.web_ssl_context, backlog=_BACKLOG)
