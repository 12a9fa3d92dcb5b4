"""The runbook's entries, as they are served at `/help/<topic>`: read from `help/en.md` and `help/vi.md`.

`docs/operations.md` has the English ones word for word (a test holds them equal). An entry's topic is made of its
English heading, as links to headings are; the entries of both languages stand in the same order.
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from web.i18n import LANGUAGES, Language

_FOLDER = Path(__file__).parent / "help"
_HEADING = re.compile(r"^### (.+)$", re.MULTILINE)
_markdown = MarkdownIt("commonmark", {"html": False})


@dataclass(frozen=True)
class Entry:
    """What to do about one kind of state."""

    topic: str
    title: str
    text: str
    """Markdown."""
    html: Markup


def topic_of(heading: str) -> str:
    """The name of a heading in addresses, as in links to it: "Kafka is away" is `kafka-is-away`."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def source(language: Language) -> str:
    """The Markdown of all entries of a language."""
    return (_FOLDER / f"{language}.md").read_text(encoding="utf-8")


def parts(language: Language) -> list[tuple[str, str]]:
    """Heading and Markdown of each entry."""
    found = _HEADING.split(source(language))[1:]
    return [(heading.strip(), text.strip()) for heading, text in zip(found[::2], found[1::2], strict=True)]


@cache
def entries(language: Language) -> dict[str, Entry]:
    """All entries of a language by topic, in the order of the runbook."""
    topics = [topic_of(heading) for heading, _ in parts("en")]
    return {
        topic: Entry(topic, heading, text, _html(text, frozenset(topics)))
        for topic, (heading, text) in zip(topics, parts(language), strict=True)
    }


def load() -> None:
    """Read all entries now, so that a file that is missing or broken ends the start and not a request."""
    for language in LANGUAGES:
        entries(language)


def _html(text: str, topics: frozenset[str]) -> Markup:
    tokens = _markdown.parse(text)
    for token in tokens:
        if token.children:
            token.children = _with_served_links(token.children, topics)
    return Markup(_markdown.renderer.render(tokens, _markdown.options, {}))


def _with_served_links(tokens: list[Token], topics: frozenset[str]) -> list[Token]:
    """Links to entries lead to them; what is only in the documents is named without a link."""
    kept, is_served = [], True
    for token in tokens:
        if token.type == "link_open":
            topic = str(token.attrGet("href")).removeprefix("#")
            is_served = topic in topics
            token.attrSet("href", f"/help/{topic}")
        if is_served or token.type not in ("link_open", "link_close"):
            kept.append(token)
        if token.type == "link_close":
            is_served = True
    return kept
