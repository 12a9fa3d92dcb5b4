"""The headline of a page is the worst of what it shows, whatever the combination."""

from datetime import UTC, datetime, timedelta
from itertools import product

import pytest

from web.i18n import LANGUAGES, Texts
from web.verdict import LOOKS_BY_WEIGHT, Look, PartState, headline, verdict

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
PARTS = ("ingestion", "replica", "brokers")


def state(part: str, look: Look, *, minutes: int = 0, counts: bool = True, text: str = "111,245 behind.") -> PartState:
    since = None if look == "ok" else NOON - timedelta(minutes=minutes)
    return PartState(part=part, look=look, name=part.capitalize(), text=text, since=since, counts=counts)


EVERY_COMBINATION = list(product(LOOKS_BY_WEIGHT, repeat=len(PARTS)))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("looks", EVERY_COMBINATION, ids="-".join)
def test_every_combination_has_the_colour_of_its_worst_and_names_it(looks: tuple[Look, ...], language: str) -> None:
    t = Texts(language)  # type: ignore[arg-type]
    states = [state(part, look, minutes=n) for n, (part, look) in enumerate(zip(PARTS, looks, strict=True))]
    found = verdict(states, main=["ingestion"])
    worst = max(looks, key=LOOKS_BY_WEIGHT.index)
    assert found.look == worst
    text = headline(t, found)
    if worst == "ok":
        assert text == t("verdict.ok")
        assert found.since is None
        return
    assert text != t("verdict.ok")
    for part, look in zip(PARTS, looks, strict=True):
        is_named = part.capitalize() in text.replace(t("verdict.main_is_well", rest=""), "")
        assert is_named == (look == worst)
    assert found.since == max(
        (s.since for s in states if s.look == worst and s.since is not None), key=lambda at: NOON - at
    )
    assert (t("verdict.main_is_well", rest="") in text) == (looks[0] == "ok" and worst in ("warn", "bad"))
    assert ("111,245" in text) == (worst in ("warn", "bad"))


@pytest.mark.parametrize(
    ("looks", "sentence"),
    [
        (("ok", "ok", "ok"), "All is well"),
        (("ok", "bad", "warn"), "Ingestion is well; Replica: 111,245 behind"),
        (("bad", "bad", "ok"), "Ingestion: 111,245 behind; Replica: 111,245 behind"),
        (("warn", "ok", "off"), "Ingestion: 111,245 behind"),
        (("off", "ok", "ok"), "Not known now: Ingestion"),
        (("ok", "off", "off"), "Not known now: Replica; Brokers"),
    ],
)
def test_headlines(looks: tuple[Look, ...], sentence: str) -> None:
    states = [state(part, look) for part, look in zip(PARTS, looks, strict=True)]
    assert headline(Texts("en"), verdict(states, main=["ingestion"])) == sentence


def test_where_there_is_nothing_to_tell_is_no_fault() -> None:
    idle = state("latency", "off", counts=False)
    assert verdict([state("replica", "ok"), idle]).look == "ok"
    assert verdict([idle]).look == "off"
    assert headline(Texts("en"), verdict([])) == "The state is not known yet"


def test_two_states_of_one_part_count_as_the_worse() -> None:
    found = verdict([state("lag", "ok"), state("lag", "bad"), state("lag", "bad")])
    assert (found.look, len(found.named)) == ("bad", 1)


def test_many_faults_are_named_up_to_three_and_counted() -> None:
    found = verdict([state(f"part{n}", "bad", text="") for n in range(5)])
    assert headline(Texts("en"), found) == "Part0; Part1; Part2; and 2 more"
