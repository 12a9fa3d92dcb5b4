"""`emis-streams sync`: fills or repairs the classes from a snapshot of their source."""

import asyncio
import stat
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

import click
import msgspec

from emis_streams import settings
from emis_streams.cli.download import download
from emis_streams.cli.lines import chunks_of, lines_of, lines_of_blocks
from emis_streams.cli.progress import progress
from emis_streams.producer import EventProducer
from emis_streams.quantities import counted
from emis_streams.snapshot import Comparison, State, delete_of, versions_here

_SCHEMES = ("http://", "https://")
CHUNK_LINES = 5_000
"""What is compared and sent at once."""


@dataclass(frozen=True)
class Options:
    """How a sync is done."""

    dry_run: bool
    delete_missing: bool
    taken_at: datetime | None
    most_deletes_percent: float
    max_bytes: int
    """Of a text behind an address, unpacked."""


@click.command()
@click.argument("source", metavar="FILE|URL")
@click.option("--dry-run", is_flag=True, help="Send nothing, only say what would be sent.")
@click.option("--delete-missing", is_flag=True, help="Delete the classes that the snapshot lacks.")
@click.option(
    "--most-deletes",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 100),
    help="Percent of all classes from which --delete-missing deletes nothing: a snapshot may be cut short.",
)
@click.option(
    "--max-gib",
    default=32.0,
    show_default=True,
    type=click.FloatRange(0, min_open=True),
    help="Most that a URL may give, unpacked: a small packed text can be endless.",
)
@click.option("--taken-at", help="When the snapshot was taken (RFC 3339); default: its newest updatedAt.")
@click.option("--report", type=click.File("wb", lazy=True), help="NDJSON: each class that is not as in the snapshot.")
def sync(
    source: str,
    dry_run: bool,
    delete_missing: bool,
    most_deletes: float,
    max_gib: float,
    taken_at: str | None,
    report: BinaryIO | None,
) -> None:
    """Compare the classes with a snapshot of their source and send ordinary events for what differs.

    FILE|URL (- for stdin) has one class per line (NDJSON): classId, className, grade, academicYear, totalStudents,
    schoolId, homeroomTeacherId, updatedAt. What is newer here stays, what the snapshot lacks is reported. At the same
    time (by the precision of updatedAt: second, millisecond or microsecond) the snapshot is right.
    Doing it twice does no harm. Exit code 1 if a line was refused, or if something (still) differs.
    """
    _check_file(source)
    options = Options(dry_run, delete_missing, _time(taken_at), most_deletes, round(max_gib * 2**30))
    sys.exit(asyncio.run(_sync(source, options, report)))


def _check_file(source: str) -> None:
    """Raises BadParameter if it can be no file, before brokers are asked. It is not opened: a pipe opens once only."""
    if source == "-" or source.startswith(_SCHEMES):
        return
    try:
        mode = Path(source).stat().st_mode
    except (OSError, ValueError) as error:
        raise click.BadParameter(f"{source}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise click.BadParameter(f"{source}: Is a directory")


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time_given = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no RFC 3339 time") from None
    if time_given.tzinfo is None:
        raise click.BadParameter(f"{text!r} has no zone: add Z or +07:00")
    return time_given


async def _sync(source: str, options: Options, report: BinaryIO | None) -> int:
    chosen = settings.current()

    def told(state: State, class_id: str) -> None:
        if report is not None:
            report.write(msgspec.json.encode({"state": state, "classId": class_id}) + b"\n")

    with progress("rows of the changelog") as advance:
        comparison = Comparison(await versions_here(chosen, advance), told)
    async with AsyncExitStack() as stack:
        producer = None if options.dry_run else await stack.enter_async_context(EventProducer(chosen))
        n_refused = await _send_differences(comparison, source, options.max_bytes, producer)
        n_lacking, n_deleted = await _lacking(comparison, options, n_refused, producer)
    click.echo(_summary(comparison, n_refused, n_deleted, options.dry_run))
    n_unsent = comparison.counts["created"] + comparison.counts["updated"] if options.dry_run else 0
    return 1 if n_refused or n_unsent or n_lacking > n_deleted or (options.dry_run and n_deleted) else 0


async def _send_differences(comparison: Comparison, source: str, max_bytes: int, producer: EventProducer | None) -> int:
    """Compares and sends the whole snapshot; how many lines were refused."""
    n_refused = 0
    with progress("classes of the snapshot") as advance:
        async for chunk in chunks_of(_snapshot(source, max_bytes), CHUNK_LINES):
            events, refused = comparison.take(chunk, time.time_ns() // 1_000_000)
            for number, reason in refused:
                click.echo(f"line {number}: {reason}", err=True)
            if producer is not None:
                await producer.send_many(events)
            n_refused += len(refused)
            advance(len(chunk))
    return n_refused


async def _lacking(
    comparison: Comparison, options: Options, n_refused: int, producer: EventProducer | None
) -> tuple[int, int]:
    """How many classes the snapshot lacks, and of how many the delete was sent (or would be)."""
    taken_at = options.taken_at or comparison.newest
    if taken_at is None:
        click.echo("the snapshot has no class: nothing was compared", err=True)
        return comparison.n_known, 0
    n_known = comparison.n_known
    lacking = comparison.lacking(taken_at)
    if not lacking or not options.delete_missing or not _may_delete(len(lacking), n_known, options, n_refused):
        return len(lacking), 0
    if producer is not None:
        for start in range(0, len(lacking), CHUNK_LINES):
            await producer.send_many([delete_of(*one) for one in lacking[start : start + CHUNK_LINES]])
    return len(lacking), len(lacking)


def _may_delete(n_lacking: int, n_known: int, options: Options, n_refused: int) -> bool:
    if n_refused:
        refused = counted(n_refused, "line was", "lines were")
        click.echo(f"nothing deleted: {refused} refused, their classes are not missing", err=True)
        return False
    if n_lacking > n_known * options.most_deletes_percent / 100:
        click.echo(
            f"nothing deleted: the snapshot lacks {n_lacking:,} of {n_known:,} classes, more than --most-deletes "
            f"{options.most_deletes_percent:g} percent; is it whole?",
            err=True,
        )
        return False
    return True


def _summary(comparison: Comparison, n_refused: int, n_deleted: int, dry_run: bool) -> str:
    n = comparison.counts
    verb = "would send" if dry_run else "sent"
    return (
        f"{verb} {n['created']:,} created, {n['updated']:,} updated, {n_deleted:,} deleted; "
        f"{n['unchanged']:,} unchanged, {n['newer here']:,} newer here, {n['lacking']:,} not in the snapshot, "
        f"{counted(n_refused, 'line')} refused"
    )


async def _snapshot(source: str, max_bytes: int) -> AsyncIterator[Sequence[bytes]]:
    if source.startswith(_SCHEMES):
        async for lines in lines_of_blocks(download(source, max_bytes)):
            yield lines
        return
    try:
        file = click.open_file(source, "rb")
    except OSError as error:
        raise click.BadParameter(f"{source}: {error.strerror}") from None
    with file:
        async for lines in lines_of(cast(BinaryIO, file)):
            yield lines
