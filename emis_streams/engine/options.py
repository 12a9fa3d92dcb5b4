"""What can be set about the engine; an App carries one of these."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast


@dataclass(frozen=True, kw_only=True)
class Options:
    client: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Keyword arguments of every Kafka client of the engine's own: bootstrap servers, security."""
    slice_records: int = 500
    slice_bytes: int = 1_000_000
    buffered_slices: int = 8
    """Slices under way of a partition before fetching waits."""
    linger_seconds: float = 0.04
    """How long records gather before the next fetch when there is no backlog: each slice has a price."""
    drain_timeout_seconds: float = 20.0
    watchdog_timeout_seconds: float = 60.0
    changelog_compression: str | None = None


def options_of(app: Any) -> Options:
    return cast(Options, app.engine_options)
