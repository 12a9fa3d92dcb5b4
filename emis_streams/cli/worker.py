"""`emis-streams worker`: runs the Faust worker with the roles of its settings."""

import asyncio
import atexit
import faulthandler
import gc
import importlib
import logging
import os
import sys
from pathlib import Path

import click

from emis_streams import data_dir as data_dir_path
from emis_streams import exclusive, exposure, settings, tracing
from emis_streams.cli.logs import set_up_logging
from emis_streams.cli.open_files import allow_open_files
from emis_streams.cli.processes import run_processes, workers
from emis_streams.settings import Settings

_GARBAGE_OBJECTS = 20_000
_AUTOGROUP = Path("/proc/self/autogroup")


@click.command()
@click.option("--roles", help="Comma-separated of ingest, replicate, serve (else ROLES; default: all).")
@click.option("--port", type=int, help="Port of the web views (else PORT; default 6066).")
@click.option("--data-dir", help="Folder of tables and read model, one per worker (else DATA_DIR).")
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="So many workers: each with its own folder below DATA_DIR, and the next port.",
)
def worker(roles: str | None, port: int | None, data_dir: str | None, processes: int) -> None:
    """Run a worker: ingest events, replicate to the database, serve pages.

    Everything can be set by environment variables; docs/operations.md lists them.
    Ctrl-C or SIGTERM finishes what was begun, commits and ends.
    Exit codes: 2 a wrong setting, 70 something failed, 75 no progress.
    """
    given = {"ROLES": roles, "PORT": None if port is None else str(port), "DATA_DIR": data_dir}
    os.environ.update({name: value for name, value in given.items() if value is not None})
    config = settings.current()
    exposure.check(config)
    exposure.check_host(config.host)
    data_dir_path.make(config.data_path)
    allow_open_files()
    if processes > 1:
        sys.exit(run_processes(workers(processes, config)))
    exclusive.hold_for_worker(config)
    set_up_logging(config)
    check_port(config)
    give_way(config.niceness)
    run_app("emis_streams.worker", config.service)


def give_way(niceness: int) -> None:
    """Lowers this process's share of the processors where others want them too.

    Where Linux groups processes by session (sched_autogroup), niceness only counts within a session,
    and the session has one of its own (`man 7 sched`); it is set if this worker is the whole session.
    """
    if niceness == 0:
        return
    os.nice(niceness)
    if os.getsid(0) != os.getpid() or not _AUTOGROUP.exists():
        return
    try:
        _AUTOGROUP.write_text(str(niceness))
    except OSError as error:
        logging.getLogger(__name__).warning("NICENESS=%d has no effect on its session: %s", niceness, error)


def run_app(module: str, service: str) -> None:
    """Runs the app that importing the module puts together, in this process, until it is told to stop.

    `service` is what traces call it.
    """
    import uvloop

    faulthandler.enable()  # Where in our code a library crashed.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    tracing.set_up(service)
    atexit.register(tracing.shut_down)
    # Imported late: `--help` and mistakes answer at once, and agents are only made where they run.
    from faust import Worker

    from emis_streams.engine.database_errors import DatabaseError

    try:
        app = importlib.import_module(module).app
    except DatabaseError as error:
        click.echo(str(error), err=True)
        sys.exit(1)

    collect_garbage_seldom()
    worker = Worker(app, quiet=True, redirect_stdouts=False, override_logging=False)
    worker.spinner = None  # It would write control characters into logs.
    worker.execute_from_commandline()


def collect_garbage_seldom() -> None:
    """Slices make many objects that reference counting frees; modules are never freed.

    Not looking through both for cycles so often, and one copy of the keys less, made ingestion 8 % faster
    (docs/benchmarks.md).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS)


def check_port(config: Settings) -> None:
    """Ends this process with exit code 1 if its port is taken."""
    import socket

    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((config.host, config.port))
        except OSError as error:
            click.echo(f"cannot listen on HOST={config.host} PORT={config.port}: {error.strerror}", err=True)
            sys.exit(1)
