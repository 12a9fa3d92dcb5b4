"""The whole on real parts, as a user sees it: `emis-streams up`, a browser, and events that come in."""

import os
import re
import signal
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
from playwright.async_api import expect

from emis_streams.events import AssignmentCreated, ClassCreated, ClassDeleted, ClassUpdated
from emis_streams.producer import EventProducer
from tests.e2e.conftest import DESKTOP, PHONE, Reading
from tests.services import free_port

ONE_INTERVAL_MS = 20_000
"""Within it, an open page of a teacher has asked for itself again."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Stack:
    """A running `emis-streams up`."""

    site: str
    teacher_path: str
    brokers: str
    process: psutil.Process
    lines: list[str]
    """What it said until it was ready."""

    @property
    def teacher_id(self) -> str:
        return self.teacher_path.rpartition("/")[2]

    def workers(self) -> list[psutil.Process]:
        """Its worker processes (not the broker)."""
        return [p for p in self.process.children(recursive=True) if "worker" in p.cmdline()]

    @contextmanager
    def ingestion_stopped(self) -> Iterator[None]:
        """The worker that ingests does nothing, but is there; the one that serves goes on."""
        (ingesting,) = [p for p in self.workers() if "ingest" in p.environ().get("ROLES", "") + " ".join(p.cmdline())]
        ingesting.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            ingesting.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder: Path = tmp_path_factory.mktemp("stack")
    brokers = f"127.0.0.1:{free_port(2)}"
    environment = {
        **os.environ,
        "DATA_DIR": str(folder / "data"),
        "KAFKA_BROKERS": brokers,
        "PORT": str(free_port()),
        "DATABASE_URL": "",
    }
    command = [sys.executable, "-m", "emis_streams", "up", "--classes", "120"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            found = re.search(r"(http://\S+?)(/teachers/\S+)", line)
            if found:
                break
        else:
            pytest.fail("up ended:\n" + "".join(lines))
        yield Stack(found[1], found[2], brokers, psutil.Process(process.pid), lines)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)


async def send(stack: Stack, *happened: ClassCreated | ClassUpdated | ClassDeleted | AssignmentCreated) -> None:
    async with EventProducer(brokers=stack.brokers) as producer:
        for event in happened:
            await (await producer.send(event))


def fresh() -> str:
    return str(uuid.uuid4())


def class_created(class_id: str, name: str) -> ClassCreated:
    return ClassCreated(
        event_id=fresh(), event_type="emis.class.created", timestamp=datetime.now(UTC), class_id=class_id,
        class_name=name, grade="Khối 12", academic_year="2026-2027", total_students=41,
    )  # fmt: skip


def assigned(stack: Stack, class_id: str) -> AssignmentCreated:
    return AssignmentCreated(
        event_id=fresh(), event_type="emis.assignment.created", timestamp=datetime.now(UTC), assignment_id=fresh(),
        teacher_id=stack.teacher_id, class_id=class_id, role="subject-teacher", subject="Tin học",
    )  # fmt: skip


def test_it_is_healthy_when_it_says_ready(stack: Stack) -> None:
    assert any(re.search("^Ready after .*: healthy[.]$", line) for line in stack.lines), "".join(stack.lines)


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
@pytest.mark.parametrize("path", ["", "/consumer-lag", "/health"])
async def test_a_fresh_stack_looks_well(stack: Stack, reading: Reading, path: str, width: int) -> None:
    async with reading(width=width, language="vi") as reader:
        await reader.page.goto(stack.site + path)
        await expect(reader.page.get_by_role("heading", level=1)).to_be_visible()
        await expect(reader.page.locator("#verdict.ok")).to_be_visible()
        assert await reader.what_runs_out() == []
        await reader.shoot(f"stack-{path.strip('/') or 'overview'}-{width}")


async def test_the_first_teacher_of_the_overview_has_classes(stack: Stack, reading: Reading) -> None:
    async with reading() as reader:
        await reader.page.goto(stack.site)
        assert await reader.page.locator(".people a").count() >= 10
        await reader.page.locator(".people a").first.click()
        await expect(reader.page.get_by_role("row", name=re.compile(r"Lớp \d")).first).to_be_visible()
        await expect(reader.page.get_by_text("Up to date")).to_be_visible()


async def test_a_teacher_s_page_follows_the_life_of_a_class(stack: Stack, reading: Reading) -> None:
    class_id = fresh()
    async with reading() as reader:
        page = reader.page
        await page.goto(stack.site + stack.teacher_path)
        await send(stack, assigned(stack, class_id))
        row = page.get_by_role("row", name=class_id)
        await expect(row).to_contain_text("No class details yet", timeout=ONE_INTERVAL_MS)
        await send(stack, class_created(class_id, "Lớp 12 Tin học"))
        created = page.get_by_role("row", name="Lớp 12 Tin học")
        await expect(created).to_contain_text("41", timeout=ONE_INTERVAL_MS)
        await send(
            stack,
            ClassDeleted(
                event_id=fresh(), event_type="emis.class.deleted", timestamp=datetime.now(UTC), class_id=class_id
            ),
        )
        await expect(row).to_contain_text("Deleted", timeout=ONE_INTERVAL_MS)
        await row.get_by_role("link").click()
        await expect(page.get_by_text("This class was deleted.")).to_be_visible()


async def test_answers_are_marked_while_nobody_ingests_and_no_longer_after(stack: Stack, reading: Reading) -> None:
    async with reading() as reader:
        page = reader.page
        await page.goto(stack.site + stack.teacher_path)
        await expect(page.get_by_text("Up to date")).to_be_visible()
        with stack.ingestion_stopped():
            await send(stack, class_created(fresh(), "Lớp đang chờ"))
            await expect(page.get_by_text("This may be out of date")).to_be_visible(timeout=30_000)
            await page.goto(f"{stack.site}/consumer-lag?only=lag")
            waiting = page.locator("#partitions-1").get_by_role("row").filter(has_text="emis.class.created")
            await expect(waiting).to_have_count(1)
            await expect(waiting).to_contain_text(re.compile("Behind|Stalled|No consumer"), timeout=15_000)
            await expect(waiting).to_contain_text(re.compile(r"\b1 record\b"))
        await page.goto(stack.site + stack.teacher_path)
        await expect(page.get_by_text("Up to date")).to_be_visible(timeout=30_000)
