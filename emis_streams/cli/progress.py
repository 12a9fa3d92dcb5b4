"""Progress of long work: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

PLAIN_EVERY_SECONDS = 5.0


class Advance(Protocol):
    """Says that so much more is done."""

    def __call__(self, n: int) -> None: ...


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Advance]:
    """Shows how far `what` is; `total` None if nobody knows."""
    if not sys.stderr.isatty():
        yield _Plain(what, total).advance
        return
    with _rich_bar() as bar:
        task = bar.add_task(what, total=total)
        yield lambda n: bar.advance(task, n)


def _rich_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )


class _Plain:
    def __init__(self, what: str, total: int | None) -> None:
        self._what = what
        self._of = "" if total is None else f" of {total:,}"
        self._done = 0
        self._shown_at = time.monotonic()

    def advance(self, n: int) -> None:
        self._done += n
        if time.monotonic() - self._shown_at >= PLAIN_EVERY_SECONDS:
            self._shown_at = time.monotonic()
            click.echo(f"{self._what}: {self._done:,}{self._of}", err=True)
