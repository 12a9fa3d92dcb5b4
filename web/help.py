"""What to do: `/help/<topic>` is an entry of the runbook, `/help` lists all; JSON unless text/html is asked for."""

from aiohttp import web

from emis_streams.lag_report import Camel
from web.help_entries import entries
from web.pages import as_json, render, texts_of, wants_html
from web.parameters import LANG, takes

routes = web.RouteTableDef()


class HelpEntry(Camel, frozen=True, kw_only=True):
    """`GET /help/{topic}`: an entry of the runbook."""

    topic: str
    title: str
    text: str
    """Markdown."""


class HelpTitle(Camel, frozen=True, kw_only=True):
    """An entry of the runbook without its text."""

    topic: str
    title: str


class HelpTitles(Camel, frozen=True, kw_only=True):
    """`GET /help`: the entries of the runbook, in its order."""

    entries: tuple[HelpTitle, ...]


@routes.get("/help")
@takes(LANG)
async def help_list(request: web.Request) -> web.StreamResponse:
    """All entries by their titles, in the reader's language."""
    found = entries(texts_of(request).language).values()
    if not wants_html(request):
        return as_json(HelpTitles(entries=tuple(HelpTitle(topic=one.topic, title=one.title) for one in found)))
    return render(request, "help.html", {"entry": None, "entries": list(found)}, live=False)


@routes.get("/help/{topic}")
@takes(LANG)
async def help_entry(request: web.Request) -> web.StreamResponse:
    """One entry, in the reader's language; 404 for a topic that the runbook does not have."""
    entry = entries(texts_of(request).language).get(request.match_info["topic"])
    if entry is None:
        raise web.HTTPNotFound(text="The runbook has no such entry: /help lists those that it has.")
    if not wants_html(request):
        return as_json(HelpEntry(topic=entry.topic, title=entry.title, text=entry.text))
    return render(request, "help.html", {"entry": entry}, live=False)
