"""`emis-streams topics`: makes the topics, says what differs in existing ones, lists what users need."""

import asyncio
import sys
from collections.abc import Sequence

import click

from emis_streams import acls, admin, settings
from emis_streams import topics as declared
from emis_streams.admin import Difference
from emis_streams.quantities import counted


def _service_name(_context: click.Context, _parameter: click.Parameter, name: str | None) -> str | None:
    if name is not None and not declared.is_service_name(name):
        raise click.BadParameter(f"{name!r}: topics are called after it: a few of the characters a-z A-Z 0-9 . _ -")
    return name


@click.command()
@click.option("--check", is_flag=True, help="Make nothing, only say what differs.")
@click.option("--acls", "list_acls", is_flag=True, help="Ask no broker: print the kafka-acls commands of each user.")
@click.option(
    "--service",
    metavar="NAME",
    callback=_service_name,
    help="Only the topics of requests to a service, and of replies to it.",
)
def topics(check: bool, list_acls: bool, service: str | None) -> None:
    """Make the topics that are missing; say what differs in existing ones, changelogs included.

    New topics have REPLICATION_FACTOR copies and MIN_INSYNC_REPLICAS (1 and 1 with one broker).
    Existing topics are never changed: for each difference the command that would change it is shown.
    Exit code 1 if something differs.
    """
    chosen = settings.current()
    if list_acls:
        click.echo("\n".join(acls.lines(chosen.kafka_brokers)))
        return
    wanted = declared.all_topics() if service is None else declared.call_topics(service)
    if not check:
        for name in asyncio.run(admin.ensure_topics(chosen, wanted)):
            click.echo(f"made {name}")
    differences = asyncio.run(admin.check_topics(chosen, wanted))
    click.echo(report(differences))
    sys.exit(1 if differences else 0)


def report(differences: Sequence[Difference]) -> str:
    """What the operator reads."""
    if not differences:
        return "All topics are as they should be."
    lines = [f"{counted(len(differences), 'difference')}:"]
    for d in differences:
        lines += [f"  {d.topic}: {d.what} is {d.found}, should be {d.wanted}", f"    {d.way_out}"]
    return "\n".join(lines)
