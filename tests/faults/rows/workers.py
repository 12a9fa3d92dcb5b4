"""Workers that are killed, frozen and told to stop."""

import time

from tests.faults.course import Course, Evidence, Row


async def nothing(course: Course) -> Evidence:
    """The control of all rows: the whole course without a fault."""
    await course.rest(3)
    return Evidence(bit=True)


async def killed(course: Course) -> Evidence:
    """The owner of partitions dies at once; the others take over when its session is over."""
    victim = course.workers[0]
    pid = victim.process.pid
    killed_at = time.monotonic()
    victim.kill()
    await course.rest(14)
    victim.start()
    return Evidence(bit=victim.process.pid != pid, healed_at=killed_at, said={"pid": pid})


ROWS = [
    Row("0", "no fault", nothing, in_ci=True),
    Row("1", "a worker is killed", killed, in_ci=True),
]
