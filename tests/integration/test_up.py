"""`emis-streams up` as a user runs it: from nothing, again, and after everything that may happen to it."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from emis_streams.local import free_port
from emis_streams.local.ports import is_answering
from emis_streams.local.readiness import Answer, ask, teacher_to_show
from tests.services import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

HOST = "127.0.0.1"
N_CLASSES = 200


@dataclass(frozen=True)
class Place:
    """A data folder and ports that no other stack has. Kept from test to test: `up` must work after anything."""

    environment: dict[str, str]
    port: int

    @property
    def data(self) -> Path:
        return Path(self.environment["DATA_DIR"])


class Up:
    """A running `emis-streams up`; what it printed is in `lines`."""

    def __init__(self, place: Place, *arguments: str) -> None:
        self.place = place
        self.lines: list[str] = []
        command = [sys.executable, "-m", "emis_streams", "up", "--classes", str(N_CLASSES), *arguments]
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **place.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def read_until(self, pattern: str) -> str:
        """The first line that matches."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())
            if re.search(pattern, line):
                return line
        raise AssertionError("up ended:\n" + "\n".join(self.lines))

    def read_to_end(self) -> list[str]:
        assert self.process.stdout is not None
        self.lines += [line.rstrip() for line in self.process.stdout]
        self.process.stdout.close()
        self.process.wait(60)
        return self.lines

    def children(self) -> dict[str, psutil.Process]:
        """Its processes by what they run: `kafka`, `worker-ingest`, `worker-serve`."""
        found = {}
        for process in psutil.Process(self.process.pid).children(recursive=True):
            folder = process.environ().get("DATA_DIR", "")
            found["kafka" if process.name() == "java" else f"worker-{Path(folder).name}"] = process
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    port = free_port(2)
    environment = {
        "DATA_DIR": str(tmp_path_factory.mktemp("up") / "data"),
        "KAFKA_BROKERS": f"localhost:{free_port()}",
        "PORT": str(port),
    }
    return Place(environment, port)


@contextmanager
def running(place: Place, *arguments: str) -> Iterator[Up]:
    """Up and ready; ended with all its children however the test ends."""
    up = Up(place, *arguments)
    try:
        up.read_until("^Ready")
        yield up
    finally:
        if up.process.poll() is None:
            up.process.terminate()
        if up.process.stdout is not None and not up.process.stdout.closed:
            up.read_to_end()
        _command(place, "down")


@pytest.fixture(scope="module")
def up(place: Place) -> Iterator[Up]:
    """One for the tests of what happens while it runs; it goes on with what the first test made."""
    with running(place) as started:
        yield started


def _command(place: Place, *arguments: str, typed: str | None = None) -> str:
    """What another `emis-streams …` with the same settings prints."""
    command = [sys.executable, "-m", "emis_streams", *arguments]
    environment = {**os.environ, **place.environment}
    done = subprocess.run(
        command, env=environment, input=typed, capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout


def _send_a_class(place: Place) -> str:
    """Through the command line; returns the new class's id."""
    class_id = str(uuid.uuid4())
    event = {
        "eventId": str(uuid.uuid4()),
        "eventType": "emis.class.created",
        "timestamp": datetime.now(UTC).isoformat(),
        "classId": class_id,
        "className": "Lớp 10A1",
        "grade": "10",
        "academicYear": "2026-2027",
        "totalStudents": 40,
        "schoolId": str(uuid.uuid4()),
        "homeroomTeacherId": None,
    }
    _command(place, "produce", "-", typed=json.dumps(event))
    return class_id


def _answer_200(place: Place, path: str) -> Answer | None:
    answer = ask(HOST, place.port, path)
    return answer if answer is not None and answer.status == 200 else None


def _shown(place: Place) -> str | None:
    return teacher_to_show(HOST, place.port)


def _gone(processes: dict[str, psutil.Process], timeout_seconds: float = 30) -> bool:
    return not psutil.wait_procs(list(processes.values()), timeout=timeout_seconds)[1]


@pytest.mark.parametrize("setting", ["PORT", "KAFKA_BROKERS"])
def test_a_port_in_use_is_named_with_its_setting(place: Place, setting: str) -> None:
    port = int(place.environment[setting].rpartition(":")[2])
    with socket.create_server((HOST, port)):
        refused = Up(place)
        lines = refused.read_to_end()
    assert refused.process.returncode == 1
    assert re.search(rf"port {port} .*in use.*{setting}", lines[-1])


def test_from_nothing_to_a_teachers_page_and_ctrl_c_stops_workers_before_the_broker(place: Place) -> None:
    with running(place) as first:
        assert re.search(r"^Ready after .*: healthy\.$", first.lines[-1])
        teacher = re.search(r"/teachers/([0-9a-f-]{36})", first.read_until("A teacher"))
        assert teacher is not None
        page = ask(HOST, place.port, f"/teachers/{teacher[1]}", accept="text/html")
        assert page is not None
        assert page.status == 200
        children = first.children()
        assert set(children) == {"kafka", "worker-ingest", "worker-serve"}
        first.process.send_signal(signal.SIGINT)
        lines = first.read_to_end()
        assert first.process.returncode == 0
        assert _gone(children)
    stopped = [line for line in lines if line.startswith("Stopping") and line.endswith(" s")]
    assert [line.split(":")[0] for line in stopped] == ["Stopping workers", "Stopping Kafka"]


def test_a_second_run_keeps_the_data(place: Place, up: Up) -> None:
    assert _shown(place) is not None
    assert not any(line.startswith("Sample data") for line in up.lines)


def test_a_second_one_at_the_same_time_is_told_so_in_one_line(place: Place, up: Up) -> None:
    second = Up(place)
    assert len(second.read_to_end()) == 1
    assert re.search(rf"already running .*pid {up.process.pid}.*emis-streams down", second.lines[0])
    assert second.process.returncode == 1
    assert _shown(place) is not None


def test_a_killed_worker_is_started_again_while_pages_are_answered(place: Place, up: Up) -> None:
    up.children()["worker-ingest"].kill()
    up.read_until("worker-ingest ended .signal 9.")
    assert _shown(place) is not None
    up.read_until("worker-ingest started again")


async def test_a_killed_broker_is_started_again_and_events_flow_on_while_pages_are_answered(
    place: Place, up: Up
) -> None:
    up.children()["kafka"].kill()
    up.read_until("kafka-1 ended .signal 9.")
    assert _shown(place) is not None
    up.read_until("kafka-1 started again")
    kafka_port = int(place.environment["KAFKA_BROKERS"].rpartition(":")[2])
    await until(lambda: is_answering(kafka_port))
    class_id = _send_a_class(place)
    answer = await until(lambda: _answer_200(place, f"/api/classes/{class_id}"), timeout_seconds=90)
    assert "Lớp 10A1" in answer.body


def test_down_ends_it_from_another_window(place: Place, up: Up) -> None:
    children = up.children()
    assert f"pid {up.process.pid}" in _command(place, "down")
    assert _gone(children)
    assert up.read_to_end()[-1].startswith("Stopped")
    assert up.process.returncode == 0
    assert "nothing was running" in _command(place, "down")


def test_after_a_kill_of_up_alone_and_after_a_kill_of_everything_the_next_one_works(place: Place) -> None:
    with running(place) as first:
        children = first.children()
        first.process.kill()
        assert _gone(children)
    with running(place) as second:
        assert _shown(place) is not None
        children = second.children()
        for process in (psutil.Process(second.process.pid), *children.values()):
            process.kill()
        assert _gone(children)
    with running(place):
        assert _shown(place) is not None


def test_fresh_starts_from_nothing_in_one_process(place: Place) -> None:
    with running(place, "--fresh", "--one-process") as fresh:
        assert _shown(place) is not None
        assert set(fresh.children()) == {"kafka", "worker-all"}
    assert any(line.startswith("Sample data") for line in fresh.lines)


def test_three_brokers_are_refused_for_the_data_of_one_and_work_afresh(place: Place) -> None:
    refused = Up(place, "--brokers", "3")
    assert "--fresh" in refused.read_to_end()[-1]
    assert refused.process.returncode == 1
    ports = ",".join(f"localhost:{free_port()}" for _ in range(3))
    elsewhere = Place({**place.environment, "KAFKA_BROKERS": ports}, place.port)
    with running(elsewhere, "--brokers", "3", "--fresh"):
        assert _shown(elsewhere) is not None
