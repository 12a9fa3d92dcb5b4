"""Where an answer is read: the local copy, or the database until that has caught up for the first time."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from aiohttp import web

from emis_streams.answers import ClassDetail, Gone, Source, TeacherDetail
from emis_streams.errors import Unavailable
from emis_streams.events import is_canonical_id
from emis_streams.node import NODE, Node
from web.freshness import FRESHNESS
from web.refusals import Refusal, Subject, refusal_of

if TYPE_CHECKING:
    from emis_streams.read_model.model import ReadModel
    from emis_streams.replica.reader import ReplicaReader

Detail = TypeVar("Detail", TeacherDetail, ClassDetail)


async def find(
    request: web.Request,
    subject: Subject,
    given: str,
    read_local: "Callable[[ReadModel, str], Detail | Gone | None]",
    read_database: "Callable[[ReplicaReader, str], Awaitable[Detail | Gone | None]]",
) -> Detail | Refusal:
    """What was asked for, with age and staleness filled in, or why there is nothing to show."""
    if not is_canonical_id(given):
        return Refusal("malformed", subject, given)
    node = request.app[NODE]
    found: Detail | Gone | None
    source: Source = "local"
    if node.read_model is not None and node.read_model.caught_up:
        found = read_local(node.read_model, given)
    else:
        source = "mysql"
        try:
            found = await _ask_database(node, given, read_database)
        except Unavailable:
            return Refusal("not_ready", subject, given)
    if found is None or isinstance(found, Gone):
        return refusal_of(found, subject, given, request.app[FRESHNESS].age(source))
    request.app[FRESHNESS].mark(found)
    return found


async def _ask_database(
    node: Node, given: str, read: "Callable[[ReplicaReader, str], Awaitable[Detail | Gone | None]]"
) -> Detail | Gone | None:
    if node.reader is None:
        raise Unavailable("this worker has neither a local copy that is caught up nor a database reader")
    found = await read(node.reader, given)
    if found is None and node.read_model is not None:
        # The database may be behind as well; in a moment the local copy can tell for certain.
        raise Unavailable("the database does not know it, and the local copy is not caught up")
    return found
