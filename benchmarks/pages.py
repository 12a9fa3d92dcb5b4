"""Teacher detail under load, against three queries and a constant; one client; and from event to page."""

import asyncio
import http.client
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import urlopen

import aiohttp

from benchmarks.data import CLASSES_OF_A_TEACHER, UPDATED, TimeText, class_event, taught_class_id, teacher_id, text_id
from benchmarks.preload import producer
from benchmarks.stage import Stage

_REQUESTS, _CLIENTS = 10_000, 100
_ONE_CLIENT_REQUESTS = 3_000
_LOAD_PER_SECOND = 5_000
_LATENCY_LOAD_PER_SECOND = 1_000
_MEASURED_PER_SECOND = 20
_LOOK_EVERY_SECONDS = 0.002
_NEVER_SEEN_SECONDS = 30.0


@dataclass(frozen=True)
class AbResult:
    """What `ab` says."""

    requests_per_second: float
    average_ms: float
    p50_ms: int
    p99_ms: int
    errors: int


def measured_path() -> str:
    """The page that `ab` asks for."""
    return f"/api/teachers/{teacher_id(0)}"


def run(stage: Stage, serving_url: str, repeats: int) -> None:
    """Ours, three queries and the constant in turn; then ours while events are ingested."""
    path = measured_path()
    with urlopen(serving_url + path, timeout=10) as answer:
        body = answer.read()
    constant = Path(stage.folder / "teacher.json")
    constant.write_bytes(body)
    with (
        stage.service("http_constant", str(constant)) as constant_url,
        stage.service("http_three_queries", stage.database_url) as queries_url,
    ):
        services = {"ours": serving_url, "constant": constant_url, "three-queries": queries_url}
        for repeat in range(1, repeats + 1):
            for name, url in services.items():
                _report(stage, name, "idle", repeat, ab(url + path))
                _report_one_client(stage, name, repeat, one_client(url, stage.n_teachers))
    for repeat in range(1, repeats + 1):
        with stage.events_arriving(_LOAD_PER_SECOND, seconds=60):
            time.sleep(3)  # the sender has started and the rate is reached
            _report(stage, "ours", f"while {_LOAD_PER_SECOND} events/s are ingested", repeat, ab(serving_url + path))


def ab(url: str) -> AbResult:
    """Raises CalledProcessError if ab gives up."""
    command = ["ab", "-l", "-q", "-n", str(_REQUESTS), "-c", str(_CLIENTS), url]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def number(pattern: str, default: str | None = None) -> float:
        found = re.search(pattern, said, re.MULTILINE)
        if found is None and default is None:
            raise RuntimeError(f"ab did not say {pattern!r}:\n{said}")
        return float(found[1] if found else str(default))

    return AbResult(
        number(r"^Requests per second:\s+([\d.]+)"),
        number(r"^Time per request:\s+([\d.]+) \[ms\] \(mean\)"),
        int(number(r"^\s+50%\s+(\d+)")),
        int(number(r"^\s+99%\s+(\d+)")),
        int(number(r"^Failed requests:\s+(\d+)") + number(r"^Non-2xx responses:\s+(\d+)", "0")),
    )


def one_client(base_url: str, n_teachers: int) -> list[float]:
    """Milliseconds of each request of one client on one connection, over all teachers."""
    connection = http.client.HTTPConnection(urlsplit(base_url).netloc, timeout=10)
    taken = []
    for n in range(_ONE_CLIENT_REQUESTS):
        begin = time.perf_counter()
        connection.request("GET", f"/api/teachers/{teacher_id(n % n_teachers)}")
        answer = connection.getresponse()
        answer.read()
        taken.append((time.perf_counter() - begin) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{base_url} answered {answer.status}")
    connection.close()
    return taken


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def _report(stage: Stage, name: str, when: str, repeat: int, result: AbResult) -> None:
    stage.results.add("teacher", contender=name, when=when, repeat=repeat, **asdict(result))
    stage.say(
        f"{name}, {when}: {result.requests_per_second:,.0f} requests/s, average {result.average_ms:.0f},"
        f" p50 {result.p50_ms}, p99 {result.p99_ms} ms, {result.errors} errors"
    )


def _report_one_client(stage: Stage, name: str, repeat: int, taken: list[float]) -> None:
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    stage.results.add("one-client", contender=name, repeat=repeat, p50_ms=p50, p99_ms=p99)
    stage.say(f"{name}, one client: p50 {p50:.2f}, p99 {p99:.2f} ms")


def event_to_page(stage: Stage, serving_url: str, seconds: float) -> None:
    """From sending an event to the first answer that shows it, with 1,000 other events a second."""
    with stage.events_arriving(_LATENCY_LOAD_PER_SECOND, seconds + 30):
        time.sleep(3)  # the sender has started and the rate is reached
        taken = asyncio.run(_Watch(stage, serving_url).run(seconds))
    seen = [t for t in taken if t is not None]
    figures = {
        "measured": len(taken),
        "never_seen": len(taken) - len(seen),
        "p50_ms": percentile(seen, 0.5) if seen else None,
        "p99_ms": percentile(seen, 0.99) if seen else None,
        "max_ms": max(seen, default=None),
    }
    stage.results.add("event-to-page", contender="ours", per_second=_LATENCY_LOAD_PER_SECOND, **figures)
    stage.say(f"event to page: {figures}")


class _Watch:
    """Sends some events that can be told apart and looks at the pages until each is seen."""

    def __init__(self, stage: Stage, serving_url: str) -> None:
        self._producer = producer(stage.brokers.bootstrap, linger_ms=0)
        self._n_teachers = stage.n_teachers
        self._url = serving_url

    async def run(self, seconds: float) -> list[float | None]:
        begin = time.perf_counter()
        async with aiohttp.ClientSession(self._url) as session:
            looking = []
            for n in range(int(seconds * _MEASURED_PER_SECOND)):
                await asyncio.sleep(max(0.0, begin + n / _MEASURED_PER_SECOND - time.perf_counter()))
                looking.append(asyncio.create_task(self._one(session, n)))
            return await asyncio.gather(*looking)

    async def _one(self, session: aiohttp.ClientSession, n: int) -> float | None:
        """Milliseconds, or None if it was not seen in time."""
        number = n % self._n_teachers
        class_id = taught_class_id(number, n // self._n_teachers % CLASSES_OF_A_TEACHER)
        name = f"Seen {n} of {time.time_ns()}"
        stamp = f'"timestamp":"{TimeText().of(time.time_ns() // 1000)}"'
        value = class_event(class_id, UPDATED, stamp, text_id(name, n), f'"className":"{name}"')
        begin = time.perf_counter()
        self._producer.produce(UPDATED, value, class_id)
        self._producer.poll(0)
        while time.perf_counter() - begin < _NEVER_SEEN_SECONDS:
            async with session.get(f"/api/teachers/{teacher_id(number)}") as answer:
                if name.encode() in await answer.read():
                    return (time.perf_counter() - begin) * 1000
            await asyncio.sleep(_LOOK_EVERY_SECONDS)
        return None
