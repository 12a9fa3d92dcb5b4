"""A data folder has one user at a time, and nothing that is not ours is deleted."""

import subprocess
import sys
from pathlib import Path

import pytest

from emis_streams.local import Child, LocalStackError
from emis_streams.local.data_folder import DataFolder


def test_a_second_up_is_told_who_holds_the_folder(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(LocalStackError, match=rf"already running .*pid {holder.pid}"), DataFolder(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with DataFolder(tmp_path):  # a killed holder leaves it free
        pass


_HOLDER = """
import sys, time
from pathlib import Path
from emis_streams.local.data_folder import DataFolder
with DataFolder(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_holder_is_known_while_it_holds(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        assert DataFolder(tmp_path).holder() is not None
    assert folder.holder() is None


def test_a_folder_with_other_files_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LocalStackError, match="DATA_DIR="), DataFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_emptying_deletes_what_a_run_wrote_and_the_folder_can_be_used_again(tmp_path: Path) -> None:
    with DataFolder(tmp_path / "data") as folder:
        (folder.path / "workers" / "serve").mkdir(parents=True)
        (folder.path / "replica.db").touch()
        folder.empty()
        assert not (folder.path / "workers").exists()
        assert not (folder.path / "replica.db").exists()
    with DataFolder(tmp_path / "data"):
        pass


def test_leftovers_are_ended_workers_before_brokers(tmp_path: Path) -> None:
    with DataFolder(tmp_path) as folder:
        left = [
            Child(name, ["sleep", "60"], folder.path / place)
            for name, place in (("kafka-1", "kafka/kafka-1"), ("worker-serve", "workers/serve"))
        ]
        for child in left:
            child.start()
        ended = folder.end_leftovers()
    assert [name.split()[0] for name in ended] == ["worker-serve", "kafka-1"]
    assert not any(child.running for child in left)
