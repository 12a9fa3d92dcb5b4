"""What the brokers' authorizer refuses, in words: a matter of grants, not of the worker."""

from collections.abc import Iterable

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from emis_streams.engine.hints import Hint, hint

DENIED = (
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    ClusterAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

_THINGS = {
    TopicAuthorizationFailedError: "topic",
    GroupAuthorizationFailedError: "group",
    ClusterAuthorizationFailedError: "cluster",
    TransactionalIdAuthorizationFailed: "transactional id",
}


def denied(error: BaseException | None) -> str | None:
    """One line that names the thing and the way out; None for any other error."""
    if not isinstance(error, DENIED):
        return None
    return f"the brokers deny it to this user: {_what(error)}; {hint(Hint.DENIED)}"


def _what(error: BaseException) -> str:
    """The thing by its name, or the sentence about it that the error was raised with."""
    thing = next(name for kind, name in _THINGS.items() if isinstance(error, kind))
    said = error.args[0] if error.args else ""
    said = getattr(said, "topic", said)  # of a partition
    if not isinstance(said, str) and isinstance(said, Iterable):
        said = ", ".join(sorted(map(str, said)))
    if not said and thing == "cluster":
        return "cluster, or any topic to write to"  # What an idempotent producer needs at the least.
    return str(said) if thing in str(said).split() else f"{thing} {said}".rstrip()
