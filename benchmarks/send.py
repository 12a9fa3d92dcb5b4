"""Sends class events at a rate, as a process of its own: `python -m benchmarks.send BOOTSTRAP RATE SECONDS CLASSES`."""

import sys
import time

from benchmarks.data import Load, class_events
from benchmarks.preload import send_at_rate


def main(bootstrap: str, per_second: float, seconds: float, classes: int) -> None:
    load = Load(
        events=int(per_second * seconds) + 1,
        classes=classes,
        seed=time.time_ns(),
        start_us=time.time_ns() // 1000,
        step_us=int(1_000_000 / per_second),
    )
    sent = send_at_rate(bootstrap, class_events(load), per_second, seconds)
    print(f"{sent} events sent in {seconds} s")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
