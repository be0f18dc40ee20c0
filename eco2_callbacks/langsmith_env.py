"""What LangSmith's SDK makes of the environment, by its own rules (langsmith 0.14.17), without importing it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal, TypeAlias
from urllib.parse import urlsplit

__all__ = [
    "HOSTED",
    "MODES",
    "OTLP_HEADERS",
    "TRACING",
    "Otel",
    "api_key_of",
    "asks_for_otel",
    "endpoint_of",
    "is_hosted",
    "is_tracing",
    "may_have_key",
    "otel_of",
    "otlp_endpoint_of",
    "project_of",
    "shown",
    "traces_url",
    "truish",
    "value_of",
    "variables",
]

Otel: TypeAlias = Literal["off", "hybrid", "only"]

HOSTED = "https://api.smith.langchain.com"
# LANGSMITH_TRACING_MODE in words of ours: where the runs go beside LangSmith, or instead of it.
MODES: Mapping[str, Otel] = {"langsmith": "off", "hybrid": "hybrid", "otel": "only"}
TRACING = ("TRACING_V2", "TRACING")
OTLP_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"
_ODD = re.compile(r"[\\\s\x00-\x1f\x7f]")
_PREFIXES = ("LANGSMITH", "LANGCHAIN")


def variables(environ: Mapping[str, str], *names: str) -> list[tuple[str, str]]:
    """Return the variables that are set and not blank, with their values; the SDK takes the first.

    ``LANGSMITH_`` comes before ``LANGCHAIN_`` within a name, and an earlier name before a later one: so
    ``LANGCHAIN_TRACING_V2`` outranks ``LANGSMITH_TRACING``.
    """
    full = [f"{prefix}_{name}" for name in names for prefix in _PREFIXES]
    return [(name, value) for name in full if (value := environ.get(name)) and value.strip()]


def value_of(environ: Mapping[str, str], *names: str) -> str:
    """Return the value that the SDK takes, ``""`` if there is none."""
    return next((value for _, value in variables(environ, *names)), "")


def is_tracing(environ: Mapping[str, str]) -> bool:
    """Say whether runs are traced; nothing but ``true`` turns it on (``utils.tracing_is_enabled``)."""
    return value_of(environ, *TRACING) == "true"


def api_key_of(environ: Mapping[str, str]) -> str | None:
    """Return the key, without white space and quotes around it (``utils.get_api_key``)."""
    return value_of(environ, "API_KEY").strip().strip('"').strip("'") or None


def endpoint_of(environ: Mapping[str, str]) -> str:
    """Return the API's address (``utils.get_api_url``)."""
    return (value_of(environ, "ENDPOINT") or HOSTED).strip().strip('"').strip("'").rstrip("/")


def project_of(environ: Mapping[str, str]) -> str:
    """Return the project that runs go to; a hosted LangServe deployment's is its own (``utils.get_tracer_project``)."""
    return environ.get("HOSTED_LANGSERVE_PROJECT_NAME", value_of(environ, "PROJECT", "SESSION")) or "default"


def otel_of(environ: Mapping[str, str]) -> Otel:
    """Return whether runs also or only go over OTLP (``client._resolve_tracing_mode``).

    A mode that the SDK refuses is ``off``: its client is not built, so nothing is sent anywhere.
    """
    if mode := value_of(environ, "TRACING_MODE"):
        return MODES.get(mode.lower(), "off")
    if truish(value_of(environ, "OTEL_ONLY")):
        return "only"
    return "hybrid" if truish(value_of(environ, "OTEL_ENABLED")) else "off"


def asks_for_otel(environ: Mapping[str, str]) -> bool:
    """Say whether any version of the SDK would send runs over OTLP: older ones know no ``TRACING_MODE``."""
    return otel_of(environ) != "off" or any(truish(value_of(environ, f"OTEL_{word}")) for word in ("ENABLED", "ONLY"))


def otlp_endpoint_of(environ: Mapping[str, str]) -> str | None:
    """Return the address that spans are sent to, None for LangSmith's own (``get_otlp_tracer_provider``)."""
    if endpoint := environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"):
        return endpoint
    base = environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    return traces_url(base) if base else None


def traces_url(base: str) -> str:
    """Return the address of traces below an OTLP base; one that ends in ``/traces`` already is it."""
    return base if base.endswith("/traces") else f"{base.rstrip('/')}/v1/traces"


def truish(value: str) -> bool:
    """Read a switch as the SDK does where it is not that of tracing (``utils.is_truish``)."""
    return value.lower() == "true" or value == "1"


def is_hosted(url: str) -> bool:
    """Say whether an address lies at LangSmith's hosted service."""
    host = _host(url)
    return host == "langchain.com" or host.endswith(".langchain.com")


def may_have_key(url: str, endpoint: str) -> bool:
    """Say whether LangSmith's key may go to an address: to LangSmith's own origin, or encrypted to its hosted service.

    The host alone does not tell: on one's own machine LangSmith and a collector differ in their ports.
    """
    origin = _origin(url)
    return origin is not None and (origin == _origin(endpoint) or (origin[0] == "https" and is_hosted(url)))


def shown(url: str) -> str:
    """Return an address as a log may show it: without user, password and query, which can be secrets."""
    if not _host(url) or "@" in urlsplit(url).path:  # an unescaped slash in a password ends the host for a parser
        return "an address that is no URL"
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _host(url: str) -> str:
    origin = _origin(url, schemeless=True)
    return "" if origin is None else origin[1]


def _origin(url: str, *, schemeless: bool = False) -> tuple[str, str, int] | None:
    """Return scheme, host and port, None for what is no URL and so is nobody's.

    What parsers disagree about is none either: to some a backslash ends the host, to others it does not.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        return None
    if not parts.hostname or not (parts.scheme or schemeless) or _ODD.search(url):
        return None
    return parts.scheme, parts.hostname, port
