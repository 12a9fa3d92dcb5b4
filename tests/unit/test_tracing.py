"""Traces: what is a child of what, what logs say, and that nothing is there while they are off."""

import io
import json
import logging
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from emis_streams import tracing
from emis_streams.cli.logs import set_up_logging
from emis_streams.errors import InvalidSetting
from emis_streams.services import messages
from emis_streams.services.messages import Request
from emis_streams.settings import Settings
from web import tracing as web_tracing


def by_name(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


def test_a_request_carries_the_trace_of_whoever_sends_it(spans: InMemorySpanExporter) -> None:
    with tracing.span("caller", SpanKind.CLIENT):
        headers = messages.request_headers(Request("greet", "key", b""), 0.0, 0.0)
    with tracing.span("carried out", SpanKind.SERVER, parent=tracing.parent_in(headers)):
        pass
    caller, carried_out = by_name(spans)["caller"].get_span_context(), by_name(spans)["carried out"]
    assert caller is not None
    assert carried_out.parent is not None
    assert (carried_out.parent.trace_id, carried_out.parent.span_id) == (caller.trace_id, caller.span_id)


def test_a_record_without_a_trace_begins_one_of_its_own(spans: InMemorySpanExporter) -> None:
    assert tracing.parent_in([("pattern", b"greet")]) is None


def test_an_exception_that_passes_makes_the_span_an_error(spans: InMemorySpanExporter) -> None:
    with pytest.raises(KeyError), tracing.span("fails", SpanKind.SERVER):
        raise KeyError("a mistake")
    assert not by_name(spans)["fails"].status.is_ok


def test_while_it_is_off_nothing_is_sent_and_nothing_is_read() -> None:
    with tracing.span("nothing", SpanKind.CLIENT) as span:
        headers = dict(messages.request_headers(Request("greet", "key", b""), 0.0, 0.0))
    assert (span, tracing.traceparent(), tracing.ids()) == (None, None, None)
    assert tracing.TRACEPARENT not in headers


def test_an_exporter_that_there_is_not_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "zipkin")
    with pytest.raises(InvalidSetting, match="OTEL_TRACES_EXPORTER='zipkin'"):
        tracing.set_up("lessons")


async def test_an_http_request_is_a_child_of_its_callers_span(spans: InMemorySpanExporter) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(text=tracing.traceparent())

    app = web.Application()
    web_tracing.setup(app)
    app.router.add_get("/lessons/{lesson_id}", answer)
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with TestClient(TestServer(app)) as http, http.get("/lessons/1", headers={"traceparent": given}) as response:
        assert "0af7651916cd43dd8448eb211c80319c" in await response.text()
    found = by_name(spans)["GET /lessons/{lesson_id}"]
    assert found.parent is not None
    assert f"{found.parent.span_id:016x}" == "b7ad6b7169203331"
    assert dict(found.attributes or {})["http.response.status_code"] == 200


async def test_clients_make_up_no_names_of_spans(spans: InMemorySpanExporter) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response()

    app = web.Application()
    web_tracing.setup(app)
    app.router.add_get("/lessons/{lesson_id}", answer)
    async with TestClient(TestServer(app)) as http:
        for number in range(20):
            for method, path in (("GET", "lessons"), ("GET", "nowhere"), ("PURGE", "lessons"), ("PROPFIND", "nowhere")):
                async with http.request(method, f"/{path}/{number}"):
                    pass
    assert {span.name for span in spans.get_finished_spans()} == {"GET /lessons/{lesson_id}", "GET", "HTTP"}
    attributes = [dict(span.attributes or {}) for span in spans.get_finished_spans()]
    assert {found["http.request.method"] for found in attributes} == {"GET", "_OTHER"}
    assert {found.get("http.route") for found in attributes} == {"/lessons/{lesson_id}", None}
    assert {found.get("http.request.method_original") for found in attributes} == {"PURGE", "PROPFIND", None}


def test_json_logs_tell_trace_and_span(spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_logging(Settings(log_format="json"))
    handler: Any = logging.getLogger().handlers[0]
    written = io.StringIO()
    monkeypatch.setattr(handler, "stream", written)
    with tracing.span("caller", SpanKind.CLIENT) as span:
        logging.getLogger("test").warning("within")
    logging.getLogger("test").warning("outside")
    within, outside = [json.loads(line) for line in written.getvalue().splitlines()]
    assert span is not None
    assert within["trace"]["id"] == f"{span.get_span_context().trace_id:032x}"
    assert within["span"]["id"] == f"{span.get_span_context().span_id:016x}"
    assert "trace" not in outside
