"""Sets up what the peers need: a virtualenv of their own (they pin other versions) and the Java program."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_HERE = Path(__file__).parent
_VENV = _HERE / ".peers"
PYTHON = _VENV / "bin" / "python"
_REQUIREMENTS = _HERE / "requirements-peers.txt"
_JAVA = _HERE / "kafka_streams"
_TARGET = _JAVA / "target"


def kafka_streams_command() -> tuple[str, ...]:
    return (
        "java",
        "-Xms1g",
        "-Xmx1g",
        "-cp",
        f"{_TARGET / 'classes'}:{_TARGET / 'lib'}/*",
        "emis.benchmarks.ClassTable",
    )


def set_up(say: Callable[[str], None]) -> None:
    """Make both, unless they are there and made from the same files."""
    if _is_stale(_VENV / "installed", [_REQUIREMENTS]):
        say("installing Quix Streams into its own virtualenv")
        uv = str(Path(sys.executable).with_name("uv"))
        _run([uv, "venv", "--quiet", "--allow-existing", "--python", sys.executable, str(_VENV)])
        _run([uv, "pip", "install", "--quiet", "--require-hashes", "--python", str(PYTHON), "-r", str(_REQUIREMENTS)])
        (_VENV / "installed").touch()
    sources = [_JAVA / "pom.xml", *sorted((_JAVA / "src").rglob("*.*"))]
    if _is_stale(_TARGET / "built", sources):
        say("building the Kafka Streams program with Maven")
        goals = ["package", "dependency:copy-dependencies", f"-DoutputDirectory={_TARGET / 'lib'}"]
        _run(["mvn", "-q", "-B", "-f", str(_JAVA / "pom.xml"), *goals])
        (_TARGET / "built").touch()


def _is_stale(mark: Path, sources: list[Path]) -> bool:
    return not mark.exists() or any(source.stat().st_mtime > mark.stat().st_mtime for source in sources)


def _run(command: list[str]) -> None:
    """Raises CalledProcessError; what the command said is on the terminal."""
    subprocess.run(command, check=True, cwd=_HERE.parent)
