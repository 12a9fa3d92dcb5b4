"""Events that only say when a thing was created, and a worker that dies with them."""

import asyncio
import signal

from tests.faults.course import Course, Evidence, Row
from tests.faults.rows.own_events import ago, class_event, new_class, passed, send
from tests.faults.trap import Trap

N_CLASSES = 60


async def killed_with_late_creates(course: Course) -> Evidence:
    """Late creates are in a table's files and not in its changelog when its only worker dies.

    The replay changes nothing in that table. All the same the changelog, and whoever follows it, has to get them.
    """
    victim, *others = course.workers
    classes = [new_class(course) for _ in range(N_CLASSES)]
    async with course.paused_load():
        await passed(course, await send(course, [class_event(c, "updated", ago(10)) for c in classes]))
        await asyncio.gather(*(worker.stop() for worker in course.workers))
        trap = Trap(victim, "before-changelog", nth=1)
        trap.start()
        await victim.ready()
        trap.spring()
        places = await send(course, [class_event(c, "created", ago(100)) for c in classes])
        said = await trap.sprung()
        victim.start()
        await victim.ready()
        await passed(course, places)
        for worker in others:
            worker.start()
        await course.stage.all_ready()
    return Evidence(bit=said["returncode"] == -signal.SIGKILL, said={"late": len(places)})


ROWS = [Row("late-created", "a worker dies with late creates in its tables only", killed_with_late_creates)]
