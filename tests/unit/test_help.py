"""What to do: every state that is not well has an entry of the runbook, in both languages, served by the worker."""

import inspect
import re
from collections.abc import AsyncIterator
from typing import get_args

import pytest
from aiohttp import ClientSession

from emis_streams.health_report import NOTHING_TO_TELL
from emis_streams.lag_report import State
from tests.pages import ToldLag, a_node, a_report, serving
from tests.unit.test_docs import code_in
from tests.unit.test_docs_operations import section
from tests.unit.test_page_verdicts import SCENARIOS, seen
from web import health_checks, help_topics
from web.health_texts import OUTPUTS
from web.help_entries import entries, parts, source, topic_of
from web.i18n import LANGUAGES, Language

HTML = {"Accept": "text/html"}


@pytest.fixture
async def client() -> AsyncIterator[ClientSession]:
    async with serving(a_node(None, ToldLag(a_report()))) as server, ClientSession(server.make_url("/")) as session:
        yield session


def test_the_runbook_of_the_documents_is_the_one_that_is_served() -> None:
    assert section("Runbook").strip() == source("en").strip(), "put web/help/en.md below '## Runbook' of operations.md"


def test_both_languages_have_the_same_entries() -> None:
    assert len(parts("vi")) == len(parts("en"))
    assert list(entries("vi")) == list(entries("en"))
    assert [en.title for en in entries("en").values()] != [vi.title for vi in entries("vi").values()]


@pytest.mark.parametrize("topic", entries("en"))
def test_an_entry_names_the_same_commands_settings_and_figures_in_both_languages(topic: str) -> None:
    en, vi = entries("en")[topic].text, entries("vi")[topic].text
    assert code_in(vi) == code_in(en)
    assert re.findall(r"\]\((.*?)\)", vi) == re.findall(r"\]\((.*?)\)", en)
    assert len(re.findall(r"^\d\. ", vi, re.MULTILINE)) == len(re.findall(r"^\d\. ", en, re.MULTILINE))


def test_every_state_has_its_entry() -> None:
    known = entries("en").keys()
    assert set(help_topics.OF_LAG_STATE) == set(get_args(State)) - {"OK"}
    all_topics = {
        *help_topics.OF_LAG_STATE.values(),
        *help_topics.OF_CHECK.values(),
        *help_topics.OF_FIGURE.values(),
        *help_topics.OF_FOLLOWER.values(),
        *help_topics.OF_SERVICE_CHECK.values(),
        *help_topics.EXTRA,
    }
    assert all_topics <= known


def test_every_check_that_can_fail_has_its_entry() -> None:
    well = set(re.findall(r'"pass", "([a-z_.]+)"', inspect.getsource(health_checks)))
    well |= {key for key in OUTPUTS if key.endswith((".ok", ".old", ".elsewhere", ".elsewhere_one"))}
    well |= {"reason.level", "reason.within", "reason.never_committed_empty", "journal.started"}
    assert set(OUTPUTS) - (well - NOTHING_TO_TELL) - help_topics.OF_CHECK.keys() == set()
    assert help_topics.OF_CHECK.keys() <= OUTPUTS.keys()


@pytest.mark.parametrize("path", ["/", "/health", "/consumer-lag"])
async def test_what_is_not_well_has_a_way_to_its_entry(path: str) -> None:
    well = await seen(SCENARIOS["well"](), path)
    assert "/help/" not in well
    troubled = await seen(SCENARIOS["database away"](), path)
    assert 'href="/help/the-database-is-away"' in troubled or path == "/consumer-lag"
    stalled = await seen(SCENARIOS["stalled"](), path)
    assert stalled.count('href="/help/a-group-has-stalled"') >= 2  # Beside the headline, and beside the line.


@pytest.mark.parametrize("language", LANGUAGES)
async def test_each_entry_is_a_page_and_each_of_its_links_is_served(client: ClientSession, language: Language) -> None:
    headers = {**HTML, "Accept-Language": language}
    listed = await (await client.get("/help", headers=headers)).text()
    for topic, entry in entries(language).items():
        assert f'href="/help/{topic}"' in listed
        page = await client.get(f"/help/{topic}", headers=headers)
        text = await page.text()
        assert page.status == 200
        assert f"<h1>{entry.title}</h1>".replace("'", "&#39;") in text
        assert set(re.findall(r'href="/help/([^"]+)"', text)) <= entries(language).keys()
        assert "decisions/" not in text
        assert "](" not in text


async def test_programs_get_json(client: ClientSession) -> None:
    listed = await (await client.get("/help", headers={"Accept-Language": "en"})).json()
    assert [one["topic"] for one in listed["entries"]] == list(entries("en"))
    one = await (await client.get("/help/kafka-is-away", headers={"Accept-Language": "en"})).json()
    assert (one["topic"], one["title"]) == ("kafka-is-away", "Kafka is away")
    assert "NotEnoughReplicas" in one["text"]


@pytest.mark.parametrize("topic", ["nothing", "..%2f..%2fetc%2fpasswd", "%3Cscript%3E", "x" * 300])
async def test_another_topic_is_not_found(client: ClientSession, topic: str) -> None:
    for accept in ("text/html", "application/json"):
        assert (await client.get(f"/help/{topic}", headers={"Accept": accept})).status == 404


def test_topics_are_made_as_links_to_headings_are() -> None:
    assert topic_of("A machine's clock is wrong") == "a-machines-clock-is-wrong"
