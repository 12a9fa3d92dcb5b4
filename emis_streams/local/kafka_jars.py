"""The jars of a Kafka broker: resolved once by Maven, kept in the user's cache folder."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from emis_streams.local.errors import LocalStackError

POM = Path(__file__).with_name("pom.xml")
_TIMEOUT_SECONDS = 600
_ATTEMPTS = 3


def version() -> str:
    """Kafka's version, as the pom pins it."""
    found = re.search(r"<kafka\.version>(.+?)</kafka\.version>", POM.read_text())
    if found is None:
        raise LocalStackError(f"{POM} does not name kafka.version")
    return found[1]


def cache_folder() -> Path:
    """Where the jars of this very pom are kept (XDG cache folder)."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    digest = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return Path(base) / "emis-streams" / f"kafka-{version()}-{digest}"


def classpath() -> str:
    """What `java -cp` is given; resolves the jars if they are not there yet (6 to 60 s).

    Raises LocalStackError when Maven is missing or fails.
    """
    folder = cache_folder()
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{folder.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two at once: the second waits and finds the folder
            if not folder.is_dir():
                _resolve_into(folder)
    return f"{folder}/*"


def _resolve_into(folder: Path) -> None:
    """Into a folder beside it, renamed when complete: what is there under the final name is whole."""
    part = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        _copy_dependencies(part)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _copy_dependencies(into: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise LocalStackError("mvn is not installed: it resolves the jars of Kafka (Debian: apt-get install maven)")
    command = [maven, "-B", "-q", "--strict-checksums", "-f", str(POM), "dependency:copy-dependencies"]
    output = ""
    for _ in range(_ATTEMPTS):  # a registry may answer badly once; what was loaded is kept by Maven
        done = subprocess.run(
            [*command, f"-DoutputDirectory={into}"], capture_output=True, text=True, timeout=_TIMEOUT_SECONDS
        )
        if done.returncode == 0:
            return
        output = done.stdout + done.stderr
    raise LocalStackError(f"Maven could not resolve the jars of Kafka:\n{output[-2000:]}")
