"""Ports on loopback."""

import random
import socket

from emis_streams.local.errors import LocalStackError

HOST = "127.0.0.1"

_CANDIDATES = range(20_000, 32_000)
"""Below the range that Linux takes the ports of outgoing connections from."""


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen on the port now."""
    with socket.socket() as probe:
        # A server's own last connections (TIME_WAIT) do not hinder it, since servers set this too.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def is_answering(port: int, host: str = HOST) -> bool:
    """Whether something accepts connections on the port."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def free_port() -> int:
    """A port that nothing listens on; raises LocalStackError when none is found."""
    for port in random.sample(_CANDIDATES, 200):
        if is_free(port):
            return port
    raise LocalStackError(f"no free port found between {_CANDIDATES.start} and {_CANDIDATES.stop}")
