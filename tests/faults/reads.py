"""Asks workers for a district's classes and teachers at a fixed rate: `python reads.py SEED RATE OUT NAME=PORT …`.

Open loop: a request is made when its time has come, whatever became of those before, and its latency
counts from that time; so a stall is seen by all the requests that fall into it.
"""

import asyncio
import json
import random
import signal
import sys
import time
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import aiohttp

from tests.faults.district import District

TIMEOUT_SECONDS = 5.0


async def main(seed: str, rate: float, out: str, workers: dict[str, int]) -> None:
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    district = District(seed)
    dice = random.Random(f"{seed} reads")
    names = sorted(workers)
    asking: set[asyncio.Task[None]] = set()
    with Path(out).open("a", encoding="utf-8", buffering=1) as file:  # noqa: ASYNC230 - before anything is asked
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as session:
            begun = time.monotonic()
            n = 0
            while not stopped.is_set():
                due = begun + n / rate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                name = names[n % len(names)]
                is_teacher = dice.random() < 0.25
                key = dice.choice(district.teachers if is_teacher else district.classes)
                kind = "teachers" if is_teacher else "classes"
                url = f"http://127.0.0.1:{workers[name]}/api/{kind}/{key}"
                task = asyncio.create_task(_ask(session, url, file, {"worker": name, "kind": kind, "key": key}, due))
                asking.add(task)
                task.add_done_callback(asking.discard)
                n += 1
            await asyncio.gather(*asking)


async def _ask(session: aiohttp.ClientSession, url: str, out: IO[str], line: dict[str, Any], due: float) -> None:
    asked = time.monotonic()
    try:
        async with session.get(url) as response:
            body = await response.json(content_type=None)
            answer = {"status": response.status, **_said(body)}
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        answer = {"status": 0, "error": type(error).__name__}
    line = {**line, "due": due, "asked": asked, "took": time.monotonic() - due, **answer}
    out.write(json.dumps(line, ensure_ascii=False) + "\n")


def _said(body: dict[str, Any]) -> dict[str, Any]:
    """What of an answer is checked."""
    said = {name: body.get(name) for name in ("version", "eventId", "stale", "ageSeconds", "source", "deletedAt")}
    said["name"] = body.get("className", body.get("fullName"))
    if "classAssignments" in body:
        said["entries"] = [[c["assignmentId"], c["classId"], c["className"]] for c in body["classAssignments"]]
    return said


if __name__ == "__main__":
    asyncio.run(
        main(sys.argv[1], float(sys.argv[2]), sys.argv[3], {n: int(p) for n, p in (a.split("=") for a in sys.argv[4:])})
    )
