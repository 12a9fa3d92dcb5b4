"""Names that a topic can have. Any other must never reach a client of the brokers.

aiokafka keeps every name that it was asked for. One that no topic can have stays in each of its later metadata
requests, which then fail: the client would send and receive nothing more.
"""

import re

_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}")
_RESERVED = (".", "..")
"""Kafka keeps a topic in folders of its name."""

ALLOWED = "1 to 249 of the characters a-z A-Z 0-9 . _ -"


class InvalidTopicName(ValueError):
    """No topic can have this name."""


def is_topic_name(name: str) -> bool:
    """Whether brokers would make a topic of this name."""
    return _NAME.fullmatch(name) is not None and name not in _RESERVED


def require_topic_name(name: str) -> None:
    """Raises InvalidTopicName."""
    if not is_topic_name(name):
        raise InvalidTopicName(f"{name[:300]!r} is no name of a topic: {ALLOWED}")
