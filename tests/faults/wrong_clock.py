"""A process whose clock is wrong, by libfaketime."""

from pathlib import Path


def wrong_clock(seconds: float) -> dict[str, str]:
    """Environment of a process whose clock is wrong by so much from the start on.

    What measures durations is right, as it is with a wrong clock.
    """
    found = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not found:
        raise RuntimeError("libfaketime is missing: scripts/system-packages faults says how to install it")
    return {
        "LD_PRELOAD": str(found[0]),
        "FAKETIME": f"{seconds:+.0f}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",  # That makes waits for Python's interpreter lock busy ones.
    }
