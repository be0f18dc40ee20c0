"""otlp: keeps LangSmith's API key from an OTLP endpoint that is not LangSmith's."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import MutableMapping
from typing import Any

from eco2_callbacks.langsmith_env import (
    OTLP_HEADERS,
    api_key_of,
    asks_for_otel,
    endpoint_of,
    may_have_key,
    otlp_endpoint_of,
    shown,
)

__all__ = ["withhold_langsmith_key"]

_logger = logging.getLogger(__name__)
# LangSmith's SDK (langsmith/_internal/otel/_otel_client.py) exports over a provider of its own where the application
# has set none, and puts its key into the headers unless OTEL_EXPORTER_OTLP_HEADERS says something. A lone comma does,
# and means no header to every reader of the variable: to the SDK, old versions included, to OpenTelemetry's exporters,
# which then send OTEL_EXPORTER_OTLP_TRACES_HEADERS where that is set, and to exporters of metrics and logs, for which a
# header of ours or a copy of the traces' would be one too many. A tracer provider made here would keep the key as well,
# but the global one can be set only once, and is the application's to set.
_NO_HEADERS = ","


def withhold_langsmith_key(environ: MutableMapping[str, str] = os.environ) -> bool:
    """Have LangSmith's OpenTelemetry mode leave its API key out of what goes to a foreign OTLP endpoint.

    Works for the mode as the environment sets it, and before LangSmith's client is made, which is at the first trace.

    Args:
        environ: Is given ``OTEL_EXPORTER_OTLP_HEADERS`` where it says no headers and the key would leave.

    Returns:
        Whether the variable was set.
    """
    endpoint = otlp_endpoint_of(environ)
    if endpoint is None or not asks_for_otel(environ) or environ.get(OTLP_HEADERS) or api_key_of(environ) is None:
        return False
    if may_have_key(endpoint, endpoint_of(environ)) or "OTEL_PYTHON_TRACER_PROVIDER" in environ:
        return False
    if (provider := _tracer_provider()) is not None:
        if _is_langsmiths_own(provider):
            _logger.warning(
                "LangSmith's client was made before Eco2CallbackHandler and may send LangSmith's API key to the OTLP "
                "endpoint %s; set %s to the headers it wants ('%s' is none), or make the handler first.",
                shown(endpoint),
                OTLP_HEADERS,
                _NO_HEADERS,
            )
        return False  # an exporter that stands already reads the variable no more
    environ[OTLP_HEADERS] = _NO_HEADERS
    _logger.warning(
        "LangSmith's SDK would send LangSmith's API key to the OTLP endpoint %s, as %s is not set. It was set to '%s', "
        "which is no header at all: the key stays here. Set it to the headers the endpoint wants, or to '%s'.",
        shown(endpoint),
        OTLP_HEADERS,
        _NO_HEADERS,
        _NO_HEADERS,
    )
    return True


def _tracer_provider() -> Any:
    """Return OpenTelemetry's global tracer provider, None while nobody has set one."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return None
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def _is_langsmiths_own(provider: Any) -> bool:
    resource = getattr(provider, "resource", None)
    return bool(getattr(resource, "attributes", {}).get("langsmith.internal_provider"))
