"""spans: the OpenTelemetry span that is current in the application, by its ids."""

from __future__ import annotations

import logging
import sys
from typing import TypedDict

__all__ = ["SpanIds", "current_span"]

_logger = logging.getLogger(__name__)


class SpanIds(TypedDict, total=False):
    """A span as a record names it: 32 and 16 hexadecimal digits; empty where there is none."""

    otel_trace_id: str
    otel_span_id: str


_NONE: SpanIds = {}


def current_span() -> SpanIds:
    """Return the ids of the current span, nothing unless it is one that a trace store will hold."""
    # Nobody can have made a span without this module: where it is not imported, nor is it here.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return _NONE
    try:
        span = trace.get_current_span()
        if span is trace.INVALID_SPAN:
            return _NONE  # there is none at all
        context = span.get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return _NONE
        if isinstance(span, trace.NonRecordingSpan) and not context.is_remote:
            # LangSmith's @traceable makes such a one current, with ids that its own export does not use.
            return _NONE
        return {"otel_trace_id": f"{context.trace_id:032x}", "otel_span_id": f"{context.span_id:016x}"}
    except Exception:  # half imported, or a span of some other make: a record is worth more than its exemplar
        _logger.debug("The current OpenTelemetry span could not be read.", exc_info=True)
        return _NONE
