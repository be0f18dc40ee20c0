"""Keeps LangSmith's API key from OTLP endpoints that are not LangSmith's."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from eco2_callbacks.langsmith.environment import (
    OTLP_HEADERS,
    api_key_of,
    display_url,
    endpoint_of,
    may_receive_key,
    may_use_otel,
    otlp_endpoint_of,
)

__all__ = ["release_langsmith_key", "withhold_langsmith_key"]

_logger = logging.getLogger(__name__)
# LangSmith's SDK (langsmith/_internal/otel/_otel_client.py) exports over a provider of its own where the application
# has set none. It puts its key into the headers unless OTEL_EXPORTER_OTLP_HEADERS has a value. A lone comma is a value,
# and means "no header" to all its readers: to the SDK, old versions included, and to OpenTelemetry's exporters, which
# then use OTEL_EXPORTER_OTLP_TRACES_HEADERS where that is set. A header of ours would also reach exporters of metrics
# and logs. A tracer provider of ours would keep the key too, but only one can be set, and that by the application.
_NO_HEADERS = ","


def withhold_langsmith_key(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Keep LangSmith's OpenTelemetry mode from sending its API key to a foreign OTLP endpoint.

    It works for the mode that the environment sets, before LangSmith's client is made at the first trace.

    Args:
        environ: Receives ``OTEL_EXPORTER_OTLP_HEADERS`` where that is not set and the key would be sent.

    Returns:
        Whether the variable was set.
    """
    endpoint = otlp_endpoint_of(environ)
    if endpoint is None or not may_use_otel(environ) or environ.get(OTLP_HEADERS) or api_key_of(environ) is None:
        return False
    if may_receive_key(endpoint, endpoint_of(environ)) or "OTEL_PYTHON_TRACER_PROVIDER" in environ:
        return False
    if (provider := _tracer_provider()) is not None:
        if _is_langsmiths_own(provider):
            _logger.warning(
                "LangSmith's client was made before Eco2CallbackHandler and may send LangSmith's API key to the OTLP "
                "endpoint %s; set %s to the headers of that endpoint ('%s' for none), or make the handler first.",
                display_url(endpoint),
                OTLP_HEADERS,
                _NO_HEADERS,
            )
        return False  # an exporter that exists no longer reads the variable
    environ[OTLP_HEADERS] = _NO_HEADERS
    _logger.warning(
        "LangSmith's SDK would send LangSmith's API key to the OTLP endpoint %s, because %s is not set. It was set to "
        "'%s', which means no header, so the key is not sent. Set it to the headers of the endpoint, or to '%s'.",
        display_url(endpoint),
        OTLP_HEADERS,
        _NO_HEADERS,
        _NO_HEADERS,
    )
    return True


def release_langsmith_key() -> None:
    """Remove the variable that ``withhold_langsmith_key`` has set, unless it was changed since."""
    if os.environ.get(OTLP_HEADERS) == _NO_HEADERS:
        del os.environ[OTLP_HEADERS]


def _tracer_provider() -> Any:
    """Return OpenTelemetry's global tracer provider; None while none is set."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def _is_langsmiths_own(provider: Any) -> bool:
    resource = getattr(provider, "resource", None)
    return bool(getattr(resource, "attributes", {}).get("langsmith.internal_provider"))
