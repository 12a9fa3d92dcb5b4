"""The engine names no command and no setting of EMIS; the application says what its operators can do."""

from pathlib import Path

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from emis_streams.engine import Hint, Options, hints
from emis_streams.engine.app import App
from emis_streams.engine.database_errors import InUse, OtherCluster, told
from emis_streams.engine.denied import denied
from emis_streams.engine.home import Home
from emis_streams.engine.topic_checks import TopicsUnfit
from emis_streams.hints import HINTS
from emis_streams.settings import Settings

ENGINE = Path(hints.__file__).parent


@pytest.fixture(autouse=True)
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests of this process may have made the app of EMIS."""
    monkeypatch.setattr(hints, "_given", {})


def said_of(about: Hint, folder: Path) -> str:
    """What the engine says where this hint applies."""
    if about is Hint.DENIED:
        return str(denied(GroupAuthorizationFailedError("counters")))
    if about is Hint.TOPICS:
        return str(TopicsUnfit(["clicks has 3 partitions"]))
    if about is Hint.FOLDER_IN_USE:
        in_use = told(folder, Exception("While lock file: LOCK"))
        assert isinstance(in_use, InUse)
        return str(in_use)
    Home(folder).check("north")
    with pytest.raises(OtherCluster) as raised:
        Home(folder).check("south")
    return str(raised.value)


SAID = [about for about in Hint if about is not Hint.LOST_RECORDS]


@pytest.mark.parametrize("about", SAID)
def test_the_engine_has_words_of_its_own(about: Hint, tmp_path: Path) -> None:
    assert about.value in said_of(about, tmp_path)


@pytest.mark.parametrize("about", SAID)
def test_an_application_has_its_words_said_instead(about: Hint, tmp_path: Path) -> None:
    App("counters", engine_options=Options(hints={about: "call Anna"}), broker="slices://127.0.0.1:1", datadir=tmp_path)
    said = said_of(about, tmp_path / "data")
    assert "call Anna" in said
    assert about.value not in said


def test_emis_has_words_for_each() -> None:
    assert set(HINTS) == set(Hint)


def test_no_file_of_the_engine_names_a_command_or_a_setting_of_emis() -> None:
    names = ["emis-streams", *(field.upper() for field in Settings.__struct_fields__ if "_" in field)]
    found = [
        f"{file.name}: {name}" for file in sorted(ENGINE.glob("*.py")) for name in names if name in file.read_text()
    ]
    # A constant of the same name as a setting.
    assert [line for line in found if "_SECONDS" not in line] == []
