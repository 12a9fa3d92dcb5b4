"""Runs `emis-streams` as a user does: a process with its settings in the environment."""

import os
import subprocess
import sys

from emis_streams.settings import Settings
from tests.services import environment_of

TIMEOUT_SECONDS = 120.0


def emis_streams(settings: Settings, *arguments: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """What the command said and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "emis_streams", *arguments],
        input=stdin,
        capture_output=True,
        env={**os.environ, **environment_of(settings)},
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
