"""`emis-streams run lessons`, which is killed when it is about to send the events of its first lesson.

Beside its tests, as what is shipped has no such switch.
"""

import os
import signal
import sys

from emis_streams.cli import main
from emis_streams.services.outbox import OutboxPublisher


async def die(publisher: OutboxPublisher) -> None:
    if await publisher._store.events(1):
        os.kill(os.getpid(), signal.SIGKILL)


OutboxPublisher._send_all = die  # type: ignore[method-assign]
sys.argv = ["emis-streams", "run", "lessons"]
main()
