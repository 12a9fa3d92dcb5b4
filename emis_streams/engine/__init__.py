"""What Faust lacks for this work: slices, acknowledgements without gaps, one follower, a watchdog.

A Faust application of its own kind can use it, and takes everything from here:

    from emis_streams.engine import App, Slice
    app = App("counters", broker="slices://localhost:9092", datadir="data")
    counts = app.Table("counts", topics=["clicks"], merge=…)

    @app.agent(app.slices("clicks"))
    async def count(slices): …

It is for agents that take slices and write rows of bytes whose `merge` decides between two of a key. Windows, joins,
`take`, `group_by`, agents that reply, standby replicas and transactions of Faust are refused with a line that says so.
docs/engine.md: what it asks of topics, rows and merge. It imports nothing of EMIS.

The way of a slice: `fetch` (columns of records off the wire) → `transport` (one Faust message a
slice, entered into the partition's `chain`) → the agent → `table` (rows to RocksDB, changelog to
the brokers) → acknowledged → the chain's done offset → commit.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emis_streams.engine.app import App
    from emis_streams.engine.config_error import ConfigError
    from emis_streams.engine.database_errors import DatabaseError
    from emis_streams.engine.follower import ChangelogSlice, Follower, Merge, Position, PositionsChanged, Sink
    from emis_streams.engine.hints import Hint
    from emis_streams.engine.options import Options
    from emis_streams.engine.part import Part
    from emis_streams.engine.row_size import MOST_ROW_BYTES, RowTooLarge, fits
    from emis_streams.engine.slices import Slice
    from emis_streams.engine.table import Table
    from emis_streams.engine.writer import Writer

__all__ = [
    "MOST_ROW_BYTES",
    "SCHEME",
    "App",
    "ChangelogSlice",
    "ConfigError",
    "DatabaseError",
    "Follower",
    "Hint",
    "Merge",
    "Options",
    "Part",
    "Position",
    "PositionsChanged",
    "RowTooLarge",
    "Sink",
    "Slice",
    "Table",
    "Writer",
    "fits",
]

SCHEME = "slices"
"""Of the URLs of broker and store that choose this transport and this store."""

_MODULES = {
    "App": "app",
    "ConfigError": "config_error",
    "DatabaseError": "database_errors",
    "Hint": "hints",
    "Options": "options",
    "Part": "part",
    "Slice": "slices",
    "Table": "table",
    "Writer": "writer",
    **dict.fromkeys(("MOST_ROW_BYTES", "RowTooLarge", "fits"), "row_size"),
    **dict.fromkeys(("ChangelogSlice", "Follower", "Merge", "Position", "PositionsChanged", "Sink"), "follower"),
}
"""Where the public names are. Imported when asked for: a command that needs one module needs no Faust."""


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
