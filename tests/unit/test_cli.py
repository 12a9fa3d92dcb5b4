"""The command line as a whole: it answers at once, and every command can be loaded and explains itself."""

import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from emis_streams import __version__
from emis_streams.cli import _COMMANDS, main


def test_every_command_explains_itself() -> None:
    for name in _COMMANDS:
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0, f"{name}: {result.output}"
        assert "Usage: " in result.output


def test_help_lists_every_command_without_loading_it() -> None:
    heavy = "import sys, emis_streams.cli; print({'aiokafka', 'faust', 'rocksdict', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", heavy], capture_output=True, check=True).stdout == b"set()\n"
    result = CliRunner().invoke(main, ["--help"])
    assert all(f"  {name} " in result.output for name in _COMMANDS)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["nonsense"]])
def test_it_answers_at_once(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "emis_streams", *arguments]
    seconds = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run(command, capture_output=True, check=False)
        seconds.append(time.monotonic() - started)
    assert min(seconds) < 1.0


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"emis-streams, version {__version__}\n"


def test_an_unknown_command_is_wrong_use() -> None:
    result = CliRunner().invoke(main, ["nonsense"])
    assert result.exit_code == 2
    assert "No such command 'nonsense'" in result.output


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("nowhere.ndjson", "No such file"),
        (".", "Is a directory"),
        ("ftp://emis.example/x", "No such file"),
        ("a\0b", "null"),
    ],
)
def test_a_snapshot_that_is_no_file_is_refused_before_brokers_are_asked(source: str, reason: str) -> None:
    result = CliRunner().invoke(main, ["sync", source])
    assert result.exit_code == 2, result.output
    assert reason in result.output
