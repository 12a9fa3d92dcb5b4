"""How many files a worker may open: databases and connections, each some."""

import resource
import sys

import click

_WANTED = 16_384
"""Of one that keeps everything, with a thousand clients (docs/operations.md, Roles and sizing)."""
_FEWEST = 512
"""Of one that has next to nothing, and few clients."""


def allow_open_files() -> None:
    """Raises this process's own limit as far as it is allowed to; exit code 1 if that is not enough to begin with.

    Without files a worker cannot connect to its brokers, which looks as if these were away: it would wait for them.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _WANTED if hard == resource.RLIM_INFINITY else min(_WANTED, hard)
    if allowed < _FEWEST:
        click.echo(f"this process may open {allowed} files, and needs {_FEWEST} at least: raise `ulimit -n`", err=True)
        sys.exit(1)
    if soft != resource.RLIM_INFINITY and soft < allowed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
