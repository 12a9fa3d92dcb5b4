"""Traces by OpenTelemetry: one from an HTTP request through all services to the last consumer of its events.

The SDK's own variables say what becomes of them: nothing is traced unless OTEL_TRACES_EXPORTER names an exporter
(`otlp`, by HTTP, or `console`); OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME and others are read
by the SDK itself. What is not traced costs a look at one variable.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from emis_streams.engine.slices import Slice
from emis_streams.errors import InvalidSetting

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

TRACEPARENT = "traceparent"
"""Header of HTTP and of records (W3C Trace Context)."""

Header = tuple[str, bytes]

_OTLP, _CONSOLE, _OFF = "otlp", "console", "none"

_propagator = TraceContextTextMapPropagator()
_provider: "TracerProvider | None" = None
_tracer: Tracer | None = None


def set_up(service: str) -> None:
    """For a process of this service, once; raises InvalidSetting for exporters that there are not."""
    named = os.environ.get("OTEL_TRACES_EXPORTER", "") or _OFF
    if named == _OFF:
        return
    from opentelemetry.sdk.resources import SERVICE_NAME, Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME") or service
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: name}))
    provider.add_span_processor(BatchSpanProcessor(_exporter(named)))
    use(provider)


def _exporter(named: str) -> "SpanExporter":
    """Imported only where it is used: requests and protobuf take a while."""
    if named == _CONSOLE:
        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter()
    if named == _OTLP:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter()
    raise InvalidSetting(f"OTEL_TRACES_EXPORTER={named!r} is not allowed: one of {_OTLP}, {_CONSOLE}, {_OFF}")


def use(provider: "TracerProvider | None") -> None:
    """Traces by this provider from now on; None: not at all."""
    global _provider, _tracer
    _provider = provider
    _tracer = None if provider is None else provider.get_tracer("emis_streams")


def shut_down() -> None:
    """Sends what was not sent yet; a few seconds at most."""
    if _provider is not None:
        _provider.shutdown()


def is_on() -> bool:
    return _tracer is not None


def span(
    name: str, kind: SpanKind, attributes: Mapping[str, Any] | None = None, parent: Context | None = None
) -> AbstractContextManager[Span | None]:
    """Around what it stands for; an exception that passes makes it an error. `parent`: None for the current one."""
    if _tracer is None:
        return nullcontext()
    return _tracer.start_as_current_span(name, context=parent, kind=kind, attributes=attributes)


def traceparent() -> str | None:
    """Of the current span, as a header has it."""
    if _tracer is None:
        return None
    carrier: dict[str, str] = {}
    _propagator.inject(carrier)
    return carrier.get(TRACEPARENT)


def headers_of(given: str | None) -> list[Header]:
    """Of a record that belongs to the trace."""
    return [] if given is None else [(TRACEPARENT, given.encode())]


def parent_in(headers: Sequence[Header]) -> Context | None:
    """The context that a record's headers tell; None if there is none."""
    if _tracer is None:
        return None
    found = next((value for name, value in headers if name == TRACEPARENT), None)
    return None if found is None else parent_of(found.decode(errors="replace"))


def parent_of(given: str | None) -> Context | None:
    """The context that a `traceparent` tells."""
    return None if given is None else _propagator.extract({TRACEPARENT: given})


@contextmanager
def consuming(batch: Slice) -> Iterator[None]:
    """Around what an agent does with a slice: a span for each of its records that belongs to a trace."""
    if _tracer is None:
        yield
        return
    attributes = {"messaging.system": "kafka", "messaging.destination.name": batch.topic}
    with ExitStack() as spans:
        for record in batch.records:
            parent = parent_in(record.headers)
            if parent is not None:
                spans.enter_context(span(f"process {batch.topic}", SpanKind.CONSUMER, attributes, parent))
        yield


def ids() -> tuple[str, str] | None:
    """Trace and span that a log record belongs to, in hexadecimal."""
    if _tracer is None:
        return None
    current = get_current_span().get_span_context()
    return (f"{current.trace_id:032x}", f"{current.span_id:016x}") if current.is_valid else None
