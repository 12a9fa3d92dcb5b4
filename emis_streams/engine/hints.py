"""What an operator can do about what the engine meets. It knows no commands: the application may name its own."""

from collections.abc import Mapping
from enum import Enum


class Hint(Enum):
    """Each with the engine's own words."""

    DENIED = "grant it"
    """What the brokers' authorizer denies."""
    TOPICS = "correct the topic"
    """A topic that is missing, or not as the tables need it. Work goes on by itself once it is."""
    LOST_RECORDS = "send the events again from their source"
    """Retention deleted records before they were read."""
    FOLDER_IN_USE = "give each worker a datadir of its own"
    OTHER_CLUSTER = "connect to that cluster, or set another datadir"
    """A folder of databases belongs to another cluster."""


_given: dict[Hint, str] = {}


def use(hints: Mapping[Hint, str]) -> None:
    """From now on in this process; what is not in `hints` stays as it is."""
    _given.update(hints)


def hint(about: Hint) -> str:
    """What to do about it, to be put behind what happened."""
    return _given.get(about, about.value)
