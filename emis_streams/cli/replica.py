"""`emis-streams replica`: the schema, filling it again, comparing it with the tables."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import click
import msgspec

from emis_streams import exclusive, settings, topics
from emis_streams.brokers import Brokers
from emis_streams.cli.progress import Advance, progress
from emis_streams.engine.writer import Writer
from emis_streams.following import RefusedRows
from emis_streams.quantities import counted
from emis_streams.replica import migrate as migrations
from emis_streams.replica import rebuild as rebuilding
from emis_streams.replica.changelogs import open_changelogs
from emis_streams.replica.comparison import WAYS_OUT
from emis_streams.replica.verify import Result
from emis_streams.replica.verify import verify as compare
from emis_streams.settings import Settings

SHOWN = 20


@click.group()
def replica() -> None:
    """The replica in MySQL or SQLite (DATABASE_URL): its schema, filling it again, comparing it."""


@replica.command()
@click.option("--sql", is_flag=True, help="Print the statements, without a connection; change nothing.")
def migrate(sql: bool) -> None:
    """Make or change the replica's tables. Workers do the same when they start."""
    url = settings.current().database_url
    if sql:
        migrations.print_sql(url)
        return
    exclusive.check_replica(settings.current())
    migrations.upgrade(url)
    click.echo("The replica's tables are up to date.")


@replica.command()
@click.option("--truncate", is_flag=True, help="Remove all rows first; until it is filled, the replica lacks some.")
def rebuild(truncate: bool) -> None:
    """Fill the replica again from the start of the changelogs, to the ends that they have now.

    Rows are kept and overwritten, unless --truncate is given. If workers that replicate are running, they
    do it and this command shows how far they are; else it does it itself.
    """
    exclusive.check_replica(settings.current())
    n_records = asyncio.run(_rebuild(settings.current(), truncate))
    click.echo(f"The replica has {counted(n_records, 'record')} of the changelogs.")


async def _rebuild(config: Settings, truncate: bool) -> int:
    async with open_changelogs(config) as logs:
        begins, ends = await logs.begins(), await logs.ends()
    total = sum(ends.values()) - sum(begins.values())
    has_workers = await _is_worked_on(config)
    await rebuilding.empty(config, truncate)
    with progress("records", total) as advance:
        if has_workers:
            await rebuilding.watch(config, ends, begins, advance, lambda: _is_worked_on(config))
            return total
        writer = Writer(config.kafka_client())
        try:
            await rebuilding.fill(config, ends, begins, RefusedRows(writer), advance)
        finally:
            await writer.stop()
    return total


async def _is_worked_on(config: Settings) -> bool:
    """Whether workers that replicate are running."""
    brokers = Brokers(config.kafka_client())
    try:
        await brokers.start()
        if topics.REPLICA_GROUP not in await brokers.group_names():
            return False
        group = (await brokers.groups([topics.REPLICA_GROUP]))[topics.REPLICA_GROUP]
        return bool(group.members)
    finally:
        await brokers.close()


@replica.command()
@click.option("--json", "as_json", is_flag=True, help="The whole result as JSON.")
@click.option(
    "--wait", default=30.0, type=click.FloatRange(0), help="Most seconds to wait for the replica to be level."
)
def verify(as_json: bool, wait: float) -> None:
    """Compare the replica with the tables, by partition of their changelogs, and list the differences.

    Can be run at any time: what changes meanwhile is not taken for a difference.
    Exit code 1 if something differs, or if the replica did not reach the ends that the logs had at the start.
    """
    exclusive.check_replica(settings.current())
    result = asyncio.run(_verify(settings.current(), wait))
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        for line in report(result):
            click.echo(line)
    sys.exit(0 if result.equal else 1)


async def _verify(config: Settings, wait: float) -> Result:
    with ExitStack() as stack:
        bars: list[Advance] = []
        return await compare(
            config,
            wait,
            note_total=lambda total: bars.append(stack.enter_context(progress("records", total))),
            advance=lambda n: bars[0](n),
        )


def report(result: Result) -> Iterator[str]:
    """What the operator reads."""
    n_rows = sum(p.rows for p in result.partitions)
    if result.equal:
        where = counted(len(result.partitions), "partition")
        yield f"The replica is equal to the tables: {counted(n_rows, 'row')} in {where}."
        return
    for p in result.partitions:
        if p.behind:
            behind = counted(p.behind, "record")
            yield f"{p.topic} {p.partition}: {behind} behind (is a worker replicating? `emis-streams lag`)"
        if p.outside_log:
            yield f"{p.topic} {p.partition}: position {p.position} is after the end of the log, which has lost records"
        if p.no_rows:
            no_rows = counted(p.no_rows, "record is no row", "records are no rows")
            yield f"{p.topic} {p.partition}: {no_rows}: `emis-streams changelogs check --repair`"
        for d in p.differences[:SHOWN]:
            detail = f" ({', '.join(d.columns)})" if d.columns else ""
            yield f"{p.topic} {p.partition}: {d.kind} {d.key}{detail}: {WAYS_OUT[d.kind]}"
        if p.n_differences > SHOWN:
            yield f"{p.topic} {p.partition}: and {p.n_differences - SHOWN:,} more (--json lists up to 1,000)"
    yield f"{counted(sum(p.n_differences for p in result.partitions), 'difference')} in {counted(n_rows, 'row')}."
