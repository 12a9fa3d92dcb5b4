"""Events of lessons → table of progress; what cannot be used → dead letters."""

from collections.abc import AsyncIterable

from agents import ingest
from emis_streams import tracing
from emis_streams.app import app
from emis_streams.engine.slices import Slice
from emis_streams.fold import fold
from emis_streams.topics import PROGRESS
from tables.progress import progress as table


@app.agent(app.slices(*PROGRESS.events), name="progress")
async def progress(slices: AsyncIterable[Slice]) -> None:
    """Each slice counts as done when the brokers have its rows and its dead letters."""
    async for batch in slices:
        with tracing.consuming(batch):
            events = ingest.decode(batch)
            folded = fold(events, table.stored(batch, events.keys))
            batch.done_when(table.write(batch, folded.rows), *ingest.dead_letters(batch, events))
        ingest.counters.count(batch, events, folded)
