"""The ids of the application's current OpenTelemetry span."""

from __future__ import annotations

import logging
import sys
from typing import TypedDict

__all__ = ["SpanIds", "current_span"]

_logger = logging.getLogger(__name__)


class SpanIds(TypedDict, total=False):
    """Trace and span id as a record holds them: 32 and 16 hexadecimal digits; empty where there is no span."""

    otel_trace_id: str
    otel_span_id: str


_NONE: SpanIds = {}


def current_span() -> SpanIds:
    """Return the ids of the current span; empty unless the span is sampled and will reach a trace store."""
    # A span can only exist where this module has been imported; do not import it here.
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return _NONE
    try:
        span = trace.get_current_span()
        if span is trace.INVALID_SPAN:
            return _NONE
        context = span.get_span_context()
        if not (context.is_valid and context.trace_flags.sampled):
            return _NONE
        if isinstance(span, trace.NonRecordingSpan) and not context.is_remote:
            # LangSmith's @traceable sets such a span; its own export uses other ids.
            return _NONE
        return {"otel_trace_id": f"{context.trace_id:032x}", "otel_span_id": f"{context.span_id:016x}"}
    except Exception:  # a partly imported module, or a foreign span class: the record matters more than its exemplar
        _logger.debug("The current OpenTelemetry span could not be read.", exc_info=True)
        return _NONE
