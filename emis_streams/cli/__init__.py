"""The command line: `emis-streams …`.

Commands are imported when they are called, so that `--help` and mistakes answer at once.
Exit codes: 0 done; 1 it could not be done, or something needs a look; 2 wrong use or setting.
"""

import importlib
import logging
import sys
from typing import Any

import click

from emis_streams import __version__, data_dir, settings
from emis_streams.engine import hints
from emis_streams.errors import InvalidEvent, InvalidSetting, Unavailable
from emis_streams.hints import HINTS

_COMMANDS: dict[str, tuple[str, str, str]] = {
    "up": ("up", "up", "Start everything on this machine: broker, database, workers, sample data."),
    "down": ("up", "down", "End what `up` left running."),
    "worker": ("worker", "worker", "Run a worker: ingest, replicate and serve, or some of it."),
    "run": ("run", "run", "Run a service: gateway, users, lessons, progress, all, or your own."),
    "topics": ("topics", "topics", "Make the topics; say what differs in existing ones."),
    "generate": ("generate", "generate", "Make a realistic country: schools, teachers, classes."),
    "produce": ("produce", "produce", "Send events from a file of NDJSON."),
    "sync": ("sync", "sync", "Fill or repair the classes from a snapshot of the source."),
    "lag": ("lag", "lag", "How far each consumer group is behind, and why."),
    "replica": ("replica", "replica", "The MySQL replica: migrate, rebuild, verify."),
    "dead-letters": (
        "dead_letters",
        "dead_letters",
        "Refused records: list, show, replay, export, put.",
    ),
    "changelogs": ("changelogs", "changelogs", "Records of changelogs that are no rows: check, repair."),
}
"""Name: module in this folder, its command, and the help of one line (shown without importing it)."""

_WITH_LOGS = ("worker", "run", "up")
"""Commands that run on and write logs of their own."""
_WITH_WARNINGS = ("worker", "run")
"""Commands whose logs say what is doubtful about settings."""


class LazyGroup(click.Group):
    """Imports a command when it is called, and tells known errors in one line."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module, attribute, _help = _COMMANDS[name]
        command: click.Command = getattr(importlib.import_module(f"emis_streams.cli.{module}"), attribute)
        return command

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, _attribute, text) in _COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except InvalidSetting as error:
            _fail(str(error), 2)
        except (Unavailable, InvalidEvent) as error:
            _fail(str(error), 1)
        except Exception as error:
            line = _kafka_error_line(error)
            if line is None:
                raise
            _fail(line, 1)


def _fail(line: str, code: int) -> None:
    click.echo(f"emis-streams: {line}", err=True)
    sys.exit(code)


def _kafka_error_line(error: Exception) -> str | None:
    """One line for an error of the Kafka client, None for any other error."""
    if "aiokafka" not in sys.modules:
        return None
    import asyncio

    from aiokafka.errors import KafkaConnectionError, KafkaError

    from emis_streams.engine.denied import denied
    from emis_streams.kafka_refusals import unavailable
    from emis_streams.settings import current

    brokers = f"KAFKA_BROKERS={current().kafka_brokers!r}"
    if isinstance(error, KafkaConnectionError):
        return str(asyncio.run(unavailable(current(), error)))
    refusal = denied(error)
    if refusal is not None:
        return f"{brokers}: {refusal}"
    if isinstance(error, KafkaError):
        return f"Kafka at {brokers} says {type(error).__name__}: {error}"
    return None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="emis-streams")
@click.pass_context
def main(ctx: click.Context) -> None:
    """EMIS Streams: a teacher's classes from events, answered without a network call.

    Settings come from the environment (KAFKA_BROKERS, DATABASE_URL, …; see docs/operations.md).
    """
    data_dir.keep_private()
    hints.use(HINTS)
    if ctx.invoked_subcommand not in _WITH_WARNINGS:
        for line in settings.doubts():
            click.echo(f"emis-streams: {line}", err=True)
    if ctx.invoked_subcommand not in _WITH_LOGS:
        # What goes wrong is raised and told in one line; the client's own records would repeat it.
        logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
