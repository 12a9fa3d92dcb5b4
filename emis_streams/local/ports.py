"""Ports on loopback."""

import random
import socket

from emis_streams.local.errors import LocalStackError

HOST = "127.0.0.1"

CANDIDATES = range(20_000, 32_000)
"""Below the range that Linux takes the ports of outgoing connections from."""

_reserved: set[int] = set()
"""What this process has given away or was told of: it may be a while until their servers listen."""


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


def reserve(*ports: int) -> None:
    """`free_port` is not to give them to somebody else."""
    _reserved.update(ports)


def free_port(n: int = 1) -> int:
    """The first of n ports in a row that nothing listens on; raises LocalStackError when none is found."""
    for first in random.sample(CANDIDATES, 200):
        ports = range(first, first + n)
        if _reserved.isdisjoint(ports) and all(is_free(port) for port in ports):
            reserve(*ports)
            return first
    raise LocalStackError(f"no free port found between {CANDIDATES.start} and {CANDIDATES.stop}")
