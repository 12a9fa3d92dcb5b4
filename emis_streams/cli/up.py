"""`emis-streams up` and `emis-streams down`: everything on this machine."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click
import msgspec
import psutil
from rich.console import Console

from emis_streams import exclusive, exposure
from emis_streams.local import plan as plans
from emis_streams.local import readiness
from emis_streams.local.data_folder import DataFolder
from emis_streams.local.errors import LocalStackError
from emis_streams.local.plan import Plan
from emis_streams.local.process import end
from emis_streams.local.progress import Progress
from emis_streams.local.stack import Stack
from emis_streams.quantities import counted
from emis_streams.settings import Settings, current

_DOWN_TIMEOUT_SECONDS = 60.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stopped(BaseException):
    """A signal asks to stop. Not an Exception, so that nothing on the way takes it for a failure."""


@click.command()
@click.option("--brokers", type=click.Choice(["1", "3"]), help="Kafka nodes; as before if there is data, else 1.")
@click.option("--database-url", help="MySQL or MariaDB of the replica; an SQLite file by default (DATABASE_URL).")
@click.option("--classes", default=20_000, show_default=True, type=click.IntRange(min=0), help="Sample data; 0: none.")
@click.option("--one-process", is_flag=True, help="All roles in one worker instead of two workers.")
@click.option("--services", is_flag=True, help="Gateway, users, lessons and progress beside the workers.")
@click.option("--gateway-port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--fresh", is_flag=True, help="Delete the data of earlier runs first.")
def up(
    brokers: str | None,
    database_url: str | None,
    classes: int,
    one_process: bool,
    services: bool,
    gateway_port: int,
    fresh: bool,
) -> None:
    """Start everything on this machine: broker, database, topics, sample data, workers.

    Runs until Ctrl-C. Data is kept in DATA_DIR (default: data). Pages: http://localhost:6066/ (PORT).
    """
    # What goes wrong is raised and told in one line; the client's own records would only add noise.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    settings = _with_database(current(), database_url)
    exposure.check_host(settings.host)
    progress = Progress(Console())
    try:
        with _signals_stop(), DataFolder(settings.data_path) as folder:
            plan = plans.make(
                settings,
                n_brokers=_n_brokers(folder, brokers, fresh=fresh),
                one_process=one_process,
                gateway_port=gateway_port if services else None,
            )
            stack = Stack(plan, folder, progress)
            for name in folder.end_leftovers():
                progress.say(f"Ended {name}, left over from an earlier run.")
            stack.check()
            if not (fresh and _is_emptied(plan.settings.database_url, folder.path)):
                exclusive.check_replica(plan.settings)
            if fresh:  # Only now: what is refused deletes nothing.
                folder.empty()
                progress.say(f"Emptied {folder.path}.")
            _run(stack, plan, progress, classes)
    except LocalStackError as error:
        raise click.ClickException(str(error)) from error
    except _Stopped:
        progress.say("Stopped. The data is kept; `emis-streams up` goes on with it.")


@click.command()
def down() -> None:
    """End what `up` left running: the `up` in another window, and what outlived a killed one."""
    folder = DataFolder(current().data_path)
    ended = []
    holder = folder.holder()
    if holder is not None:
        ended.append(_end_up(holder))
    ended += folder.end_leftovers()
    click.echo("\n".join(f"ended {name}" for name in ended) if ended else f"nothing was running with {folder.path}")


def _run(stack: Stack, plan: Plan, progress: Progress, n_classes: int) -> None:
    began = time.monotonic()
    with stack.running(n_classes) as teacher_id:
        health = readiness.health_in_words(plan.web_host, plan.serving.settings.port)
        progress.say(f"Ready after {time.monotonic() - began:.0f} s: {health}.")
        for line in _addresses(plan, teacher_id):
            progress.say(line)
        stack.keep_running()


def _addresses(plan: Plan, teacher_id: str | None) -> list[str]:
    base = f"http://{plan.web_host}:{plan.serving.settings.port}"
    teacher = f"{base}/teachers/{teacher_id}" if teacher_id else "none has classes yet (`emis-streams generate`)"
    gateway = plan.gateway and f"http://{plan.web_host}:{plan.gateway.settings.port}"
    return [
        f"  Overview      {base}/",
        f"  A teacher     {teacher}",
        f"  Health        {base}/health",
        f"  Consumer lag  {base}/consumer-lag",
        *([f"  Gateway       {gateway}/", f"  Services      {gateway}/services/status"] if gateway else []),
        f"  Kafka         {plan.settings.kafka_brokers}",
        f"  Data, logs    {plan.settings.data_dir}",
        "Ctrl-C stops everything and keeps the data.",
    ]


def _n_brokers(folder: DataFolder, wanted: str | None, *, fresh: bool) -> int:
    """As asked for; storage of another number of nodes is refused, since topics in it have other replicas."""
    kept = 0 if fresh else len(list((folder.path / "kafka").glob("kafka-*/formatted")))
    if wanted is not None and kept not in (0, int(wanted)):
        raise LocalStackError(
            f"the data in {folder.path} is of {counted(kept, 'broker')}, not {wanted}: --fresh deletes it"
        )
    return int(wanted or kept or 1)


def _is_emptied(database_url: str, folder: Path) -> bool:
    """Whether it is a file that --fresh deletes."""
    found = exclusive.sqlite_file("DATABASE_URL", database_url)
    return found is not None and found[0].is_relative_to(folder.resolve())


def _with_database(settings: Settings, database_url: str | None) -> Settings:
    return settings if database_url is None else msgspec.structs.replace(settings, database_url=database_url)


def _end_up(holder: psutil.Process) -> str:
    end(holder, _DOWN_TIMEOUT_SECONDS)
    return f"up (pid {holder.pid}) with its workers and brokers"


@contextmanager
def _signals_stop() -> Iterator[None]:
    """The first signal raises _Stopped, which stops all in order; a second one ends at once."""

    def stop(_number: int, _frame: FrameType | None) -> NoReturn:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_DFL)  # the children then die with this process
        raise _Stopped

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
