"""How LangSmith's SDK reads its environment variables, for any mapping of variables.

The SDK's own functions read ``os.environ`` and cache it; those that take a value are called here, the other rules
follow langsmith 0.15.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

from langsmith.utils import get_api_key, get_api_url, is_truish

__all__ = [
    "HOSTED",
    "MODES",
    "OTLP_HEADERS",
    "TRACING",
    "Otel",
    "api_key_of",
    "display_url",
    "endpoint_of",
    "is_hosted",
    "is_tracing",
    "may_receive_key",
    "may_use_otel",
    "otel_of",
    "otlp_endpoint_of",
    "project_of",
    "traces_url",
    "value_of",
    "variables",
]

Otel: TypeAlias = Literal["off", "hybrid", "only"]

HOSTED = "https://api.smith.langchain.com"
# The values of LANGSMITH_TRACING_MODE: whether runs also or only go over OTLP.
MODES: Mapping[str, Otel] = {"langsmith": "off", "hybrid": "hybrid", "otel": "only"}
TRACING = ("TRACING_V2", "TRACING")
OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_ODD = re.compile(r"[\\\s\x00-\x1f\x7f]")
_PREFIXES = ("LANGSMITH", "LANGCHAIN")


def variables(environ: Mapping[str, str], *names: str) -> list[tuple[str, str]]:
    """Return the variables that are set and not blank, with their values; the SDK uses the first.

    ``LANGSMITH_`` comes before ``LANGCHAIN_`` within a name, and an earlier name before a later one: so
    ``LANGCHAIN_TRACING_V2`` outranks ``LANGSMITH_TRACING``.
    """
    full = [f"{prefix}_{name}" for name in names for prefix in _PREFIXES]
    return [(name, value) for name in full if (value := environ.get(name)) and value.strip()]


def value_of(environ: Mapping[str, str], *names: str) -> str:
    """Return the value that the SDK uses; ``""`` if there is none."""
    return next((value for _, value in variables(environ, *names)), "")


def is_tracing(environ: Mapping[str, str]) -> bool:
    """Return whether runs are traced; only ``true`` turns tracing on (``utils.tracing_is_enabled``)."""
    return value_of(environ, *TRACING) == "true"


def api_key_of(environ: Mapping[str, str]) -> str | None:
    """Return the API key; None if there is none."""
    return get_api_key(value_of(environ, "API_KEY")) or None


def endpoint_of(environ: Mapping[str, str]) -> str:
    """Return the address of the API."""
    return get_api_url(value_of(environ, "ENDPOINT") or HOSTED)


def project_of(environ: Mapping[str, str]) -> str:
    """Return the project of the runs; a hosted LangServe deployment has its own (``utils.get_tracer_project``)."""
    return environ.get("HOSTED_LANGSERVE_PROJECT_NAME", value_of(environ, "PROJECT", "SESSION")) or "default"


def otel_of(environ: Mapping[str, str]) -> Otel:
    """Return whether runs also or only go over OTLP (``client._resolve_tracing_mode``).

    A mode that the SDK refuses is ``off``: the SDK then builds no client, and sends nothing.
    """
    if mode := value_of(environ, "TRACING_MODE"):
        return MODES.get(mode.lower(), "off")
    if is_truish(value_of(environ, "OTEL_ONLY")):
        return "only"
    return "hybrid" if is_truish(value_of(environ, "OTEL_ENABLED")) else "off"


def may_use_otel(environ: Mapping[str, str]) -> bool:
    """Return whether any version of the SDK would send runs over OTLP; older ones ignore ``TRACING_MODE``."""
    return otel_of(environ) != "off" or any(
        is_truish(value_of(environ, f"OTEL_{word}")) for word in ("ENABLED", "ONLY")
    )


def otlp_endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Return the OTLP address of spans; None for LangSmith's own (``get_otlp_tracer_provider``)."""
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return endpoint
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return traces_url(base) if base else None


def traces_url(base: str) -> str:
    """Return the address of traces below an OTLP base address, which may already be it."""
    return base if base.endswith("/traces") else f"{base.rstrip('/')}/v1/traces"


def is_hosted(url: str) -> bool:
    """Return whether an address belongs to LangSmith's hosted service."""
    host = _host(url)
    return host == "langchain.com" or host.endswith(".langchain.com")


def may_receive_key(url: str, endpoint: str) -> bool:
    """Return whether LangSmith's key may be sent to an address.

    It may be sent to LangSmith's own origin, and over https to its hosted service. The host alone does not decide: on
    one machine LangSmith and a collector differ only in their ports.
    """
    origin = _origin(url)
    return origin is not None and (origin == _origin(endpoint) or (origin[0] == "https" and is_hosted(url)))


def display_url(url: str) -> str:
    """Return an address for a log: without user, password and query, which can be secrets."""
    if not _host(url) or "@" in urlsplit(url).path:  # an unescaped slash in a password
        return "an address that is no URL"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _host(url: str) -> str:
    origin = _origin(url, schemeless=True)
    return "" if origin is None else origin[1]


def _origin(url: str, *, schemeless: bool = False) -> tuple[str, str, int] | None:
    """Return scheme, host and port; None for what is no URL, or one that parsers read differently (backslashes)."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if not parts.hostname or not (parts.scheme or schemeless) or _ODD.search(url):
        return None
    return parts.scheme, parts.hostname, port
