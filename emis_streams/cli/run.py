"""`emis-streams run`: one service, or all of them, beside the teacher workers."""

import os
import sys
from pathlib import Path

import click

from emis_streams import data_dir as data_dir_path
from emis_streams import exclusive, exposure, settings
from emis_streams.cli.logs import set_up_logging
from emis_streams.cli.processes import Process, run_processes
from emis_streams.cli.worker import check_port, run_app
from emis_streams.services import database, outbox_store
from emis_streams.services.catalogue import SERVICES, service_class
from emis_streams.services.service import Service

_ALL = "all"
_DATA_DIR = Path("data") / "services"


@click.command()
@click.argument("service", metavar="|".join((*SERVICES, _ALL, "MODULE:CLASS")))
@click.option("--port", type=click.IntRange(1, 65535), help="Port of its web views (else PORT, else its own).")
@click.option("--data-dir", help="Folder of its database or tables (else DATA_DIR; default data/services/NAME).")
def run(service: str, port: int | None, data_dir: str | None) -> None:
    """Run a service: the gateway, one behind it, one of your own, or all of ours in a process each.

    Everything can be set by environment variables; docs/operations.md lists them.
    Ctrl-C or SIGTERM finishes what was begun, tells the registry and ends. Exit codes are those of `worker`.
    """
    if service == _ALL:
        if port is not None:
            raise click.UsageError("--port is of one service: all of them listen on their own")
        sys.exit(run_processes([_process(kind, data_dir) for kind in SERVICES.values()]))
    sys.path.insert(0, str(Path.cwd()))  # Where a class of one's own is.
    kind = service_class(service)
    os.environ.update(_place(service, kind, port, data_dir))
    config = settings.current()
    exposure.check(config)
    exposure.check_host(config.host)
    data_dir_path.make(config.data_path)
    exclusive.hold_for_service(config, kind.database_url(config), _tables_of(kind))
    set_up_logging(config)
    check_port(config)
    run_app("emis_streams.service_worker", kind.name)


def _tables_of(kind: type[Service]) -> set[str]:
    """Names of what a database of the service has."""
    if kind.tables is None:
        return set()
    return {name for tables in (database.metadata, outbox_store.metadata, kind.tables) for name in tables.tables}


def _place(service: str, kind: type[Service], port: int | None, data_dir: str | None) -> dict[str, str]:
    return {
        "SERVICE": service,
        "PORT": str(port or os.environ.get("PORT") or kind.port),
        "DATA_DIR": data_dir or os.environ.get("DATA_DIR") or str(_DATA_DIR / kind.name),
    }


def _process(kind: type[Service], data_dir: str | None) -> Process:
    """Of `all`: each has its own port and its own folder."""
    base = Path(data_dir or os.environ.get("DATA_DIR") or _DATA_DIR)
    return Process(("run", kind.name), {"PORT": str(kind.port), "DATA_DIR": str(base / kind.name)})
