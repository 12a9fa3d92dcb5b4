"""What OpenTelemetry's exporters send to, as Jaeger is in production: keeps the spans in memory."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans


@dataclass(frozen=True)
class Received:
    """A span; ids in hexadecimal."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent_id: str


@dataclass
class Collector:
    """OTLP by HTTP."""

    endpoint: str = ""
    spans: list[Received] = field(default_factory=list)

    def of(self, trace_id: str) -> list[Received]:
        return [span for span in self.spans if span.trace_id == trace_id]

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.spans += _received(resource)
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(), content_type="application/x-protobuf"
        )


def _received(resource: ResourceSpans) -> list[Received]:
    attributes = {attribute.key: attribute.value.string_value for attribute in resource.resource.attributes}
    return [
        Received(
            attributes["service.name"], span.name, span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        )
        for scope in resource.scope_spans
        for span in scope.spans
    ]


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    _, port = runner.addresses[0]
    collector.endpoint = f"http://127.0.0.1:{port}"
    try:
        yield collector
    finally:
        await runner.cleanup()
