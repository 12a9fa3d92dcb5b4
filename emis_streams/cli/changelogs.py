"""`emis-streams changelogs`: what changelogs hold that is no row, and its repair."""

import asyncio
import sys

import click
import msgspec

from emis_streams import changelog_check, settings
from emis_streams.changelog_check import Changes, NoRow, Unread
from emis_streams.cli.logs import visible
from emis_streams.quantities import counted


@click.group()
def changelogs() -> None:
    """The changelogs of the tables: records in them that are no rows, as anybody with a producer may write."""


@changelogs.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.option("--repair", is_flag=True, help="Send the row that the log still has of the key, or a tombstone.")
@click.option("--yes", is_flag=True, help="With --repair: do not ask.")
def check(as_json: bool, repair: bool, yes: bool) -> None:
    """List the records that are no rows and the last ones of their keys: topic, partition, offset, key, reason.

    Workers leave them out, and the owner of a partition sends its own row again. What is listed while workers run is
    under a key that they have no row of. Exit code 0 if nothing is (any more), 1 if something was found, or if an open
    transaction hides records.
    """
    if yes and not repair:
        raise click.UsageError("--yes goes with --repair")
    changes = asyncio.run(changelog_check.check(settings.current()))
    found = changes.no_rows()
    for one in found:
        click.echo(msgspec.json.encode(one) if as_json else _line(one))
    if not as_json:
        click.echo(_summary(found))
    for unread in changes.unread:
        click.echo(_warning(unread), err=True)
    code = _repair(changes, found, yes) if found and repair else int(bool(found))
    sys.exit(1 if changes.unread else code)


def _line(one: NoRow) -> str:
    way_out = "its row is sent again" if one.has_row else "a tombstone is sent"
    if one.key is None:
        way_out = "left out by all readers, cannot be replaced"
    key = "null" if one.key is None else one.key[:80]
    return visible(f"{one.topic}:{one.partition}:{one.offset}  {key}  {one.reason} (--repair: {way_out})")


def _summary(found: list[NoRow]) -> str:
    if not found:
        return "Every record that changelogs keep is a row."
    n = len(found)
    return f"{counted(n, 'record is no row', 'records are no rows')}: `emis-streams changelogs check --repair`."


def _warning(unread: Unread) -> str:
    return (
        f"{unread.topic}:{unread.partition}:{unread.offset}  an open transaction: "
        f"{counted(unread.n_unread, 'record')} from here on not checked, and not read by workers yet; "
        "check again when it has ended"
    )


def _repair(changes: Changes, found: list[NoRow], yes: bool) -> int:
    n_rows = sum(one.has_row for one in found)
    n_keys = sum(one.key is not None for one in found)
    question = f"Send {counted(n_rows, 'row')} again and {counted(n_keys - n_rows, 'tombstone')}?"
    if not yes:
        click.confirm(question, abort=True, err=True)
    n_sent = asyncio.run(changelog_check.repair(settings.current(), changes))
    click.echo(f"{counted(n_sent, 'record')} sent", err=True)
    return 0 if n_sent == len(found) else 1
