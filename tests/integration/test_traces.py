"""One trace over a real broker: from who asks to who carries out, and on to the events that come of it."""

from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path

import pytest
from aiokafka.admin import NewTopic
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from emis_streams import topics, tracing
from emis_streams.services import messages
from emis_streams.services.errors import Refused
from emis_streams.services.lessons import LessonService, NewLesson
from emis_streams.services.messages import Request
from emis_streams.services.requests import Counts
from emis_streams.settings import Settings
from tests.integration.engine_rig import admin
from tests.integration.service_rig import ASKING, Answering, asking, no_dead_letter
from tests.integration.test_lessons import USER


@pytest.fixture
async def squares(broker: str, tmp_path: Path) -> AsyncIterator[Answering]:
    own = Answering(broker, tmp_path)
    await own.make_topics()
    async with admin(broker) as client:  # Unless another test has made it.
        await client.create_topics([NewTopic(topics.reply_topic(ASKING), 2, 1)])
    async with own.running():
        yield own


def trace_of(span: ReadableSpan) -> int:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id


async def test_who_carries_a_request_out_is_a_child_of_who_asked(
    broker: str, squares: Answering, spans: InMemorySpanExporter
) -> None:
    async with asking(broker) as asker:
        with tracing.span("POST /squares", SpanKind.SERVER):
            assert await asker.client.send(squares.name, "square", {"number": 3}) == {"square": 9}
    found = {span.name: span for span in spans.get_finished_spans()}
    asked, carried_out = found[f"{squares.name} square"], found["square"]
    assert len({trace_of(span) for span in found.values()}) == 1
    assert asked.parent is not None
    assert carried_out.parent is not None
    context = asked.get_span_context()
    assert context is not None
    assert carried_out.parent.span_id == context.span_id


async def test_patterns_that_nobody_answers_make_up_no_names_of_spans(
    broker: str, squares: Answering, spans: InMemorySpanExporter
) -> None:
    async with asking(broker) as asker:
        for number in range(20):
            with pytest.raises(Refused, match="is none of square"):
                await asker.client.send(squares.name, f"pattern-{number}", None)
    carried_out = [span.name for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER]
    assert carried_out == ["unknown"] * 20
    counted = asdict(squares.requests.counts)
    assert counted == {**asdict(Counts()), "refused": 20}, "metrics have a series for each of these"


async def test_events_in_the_outbox_keep_the_trace_of_the_request(tmp_path: Path, spans: InMemorySpanExporter) -> None:
    service = LessonService(Settings(service_database_url=f"sqlite:///{tmp_path / 'lessons.db'}"), no_dead_letter)
    await service.own_database.prepare()
    new = NewLesson("Phân số", USER)
    with tracing.span("create-lesson", SpanKind.SERVER):
        await service.create_lesson(new, Request("create-lesson", "key", messages.value_of(new)))
    (span,) = spans.get_finished_spans()
    events = [pending.event for pending in await service.own_database.outbox.events(10)]
    assert [tracing.headers_of(event.traceparent)[0][0] for event in events] == ["traceparent"] * 2
    assert {(event.traceparent or "").split("-")[1] for event in events} == {f"{trace_of(span):032x}"}
    await service.clean_up_resources()
