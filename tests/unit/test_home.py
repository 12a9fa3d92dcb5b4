from pathlib import Path

import pytest

from emis_streams.engine.database_errors import OtherCluster
from emis_streams.engine.home import Home


def test_a_folder_belongs_to_the_cluster_that_it_is_first_filled_from(tmp_path: Path) -> None:
    folder = tmp_path / "not there yet"
    Home(folder).check("north")
    Home(folder).check("north")
    with pytest.raises(OtherCluster):
        Home(folder).check("south")


def test_the_error_names_folder_clusters_and_both_ways_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.check("north")
    with pytest.raises(OtherCluster) as raised:
        home.check("south")
    for named in (str(tmp_path), "north", "south", str(tmp_path / "cluster-id")):
        assert named in str(raised.value)


def test_a_folder_whose_note_is_deleted_is_brought_into_the_new_cluster(tmp_path: Path) -> None:
    Home(tmp_path).check("north")
    (tmp_path / "cluster-id").unlink()
    Home(tmp_path).check("south")
    with pytest.raises(OtherCluster):
        Home(tmp_path).check("north")


def test_a_folder_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "cluster-id").mkdir()
    with pytest.raises(OSError, match="cluster-id"):
        Home(tmp_path).check("north")
