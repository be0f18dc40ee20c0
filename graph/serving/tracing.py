"""Sends the process's OpenTelemetry spans to an OTLP receiver, where the environment asks for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor

from graph.errors import GraphConfigError

__all__ = ["exporting_spans", "trace_requests"]


@contextmanager
def exporting_spans(role: str) -> Iterator[None]:
    """Export spans during the block if ``OTEL_TRACES_EXPORTER`` is ``otlp``, then send the last ones.

    Address, headers, sampling and resource follow OpenTelemetry's own variables, ``OTEL_EXPORTER_OTLP_ENDPOINT`` and
    the others. The service is ``eco2-chat-<role>`` unless ``OTEL_SERVICE_NAME`` names it.

    Raises:
        GraphConfigError: If the variable has another value, or the extra ``otel`` is not installed.
    """
    exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if exporter in {"", "none"}:
        yield
        return
    if exporter != "otlp":
        raise GraphConfigError(
            f"OTEL_TRACES_EXPORTER is {exporter!r}, wanted 'otlp' or 'none'; correct it or unset it."
        )
    try:
        # The extra otel.
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError as error:
        raise GraphConfigError(
            "OTEL_TRACES_EXPORTER needs the extra 'otel'; install it: pip install 'eco2-callbacks[otel]'."
        ) from error
    named = bool(os.environ.get("OTEL_SERVICE_NAME", "").strip())
    named = named or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": f"eco2-chat-{role}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        provider.shutdown()


def trace_requests(app: FastAPI) -> None:
    """Make a span of each request, where spans are exported. It continues the caller's trace (``traceparent``)."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return  # records must not name a trace that no store has
    FastAPIInstrumentor.instrument_app(app, exclude_spans=["receive", "send"])
