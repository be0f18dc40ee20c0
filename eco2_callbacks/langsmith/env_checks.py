"""Checks of an environment's tracing settings: one sentence per finding, with its remedy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec

from langsmith.utils import is_truish

from eco2_callbacks.langsmith.environment import (
    MODES,
    TRACING,
    api_key_of,
    display_url,
    endpoint_of,
    is_hosted,
    is_tracing,
    otel_of,
    otlp_endpoint_of,
    variables,
)

__all__ = ["check_environment"]

_OFF = frozenset({"0", "false", "no", "off"})
# langchain-core treats these as unset (`env_var_is_set`); it raises for any other value while tracing is off.
_V1_OFF = frozenset({"", "0", "false", "False"})
_LONGEST = 12
_OTEL_MODULES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http.trace_exporter")


def check_environment(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning per finding; none contains a key."""
    yield from _switch(environ)
    yield from _removed_tracer(environ)
    yield from _key(environ)
    yield from _refused(environ)
    yield from _mode(environ)
    if is_tracing(environ) and otel_of(environ) != "off":
        yield from _packages()


def _switch(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield tracing switches that contradict each other, or that are meant as on but read as off."""
    switches = variables(environ, *TRACING)
    if not switches:
        return
    (name, value), *others = switches
    on = is_tracing(environ)
    for other, other_value in others:
        if _means_off(other_value) if on else other_value == "true":
            yield (
                f"{name} is {_quoted(value)} and outranks {other}, which is {_quoted(other_value)}: "
                f"tracing is {'on' if on else 'off'}; unset one of them."
            )
            return
    if not on and not _means_off(value) and name != "LANGCHAIN_TRACING":
        yield f"{name} is {_quoted(value)}, wanted 'true': tracing stays off; write 'true', or 'false' to keep it off."


def _removed_tracer(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield switches of a tracer that langchain-core has removed."""
    if is_tracing(environ):
        return
    for name in ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"):
        if (value := environ.get(name, "")) not in _V1_OFF:
            yield (
                f"{name} is {_quoted(value)} while tracing is off: langchain-core raises RuntimeError at every call; "
                "unset it (LANGSMITH_TRACING=true turns tracing on)."
            )


def _key(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a missing key for the hosted service (the SDK's rule: ``client._validate_api_key_if_hosted``)."""
    endpoint = endpoint_of(environ)
    if not is_tracing(environ) or api_key_of(environ) is not None or variables(environ, "RUNS_ENDPOINTS"):
        return
    elsewhere = otel_of(environ) == "only" and otlp_endpoint_of(environ) is not None
    if is_hosted(endpoint) and not elsewhere:
        name, _ = variables(environ, *TRACING)[0]
        yield (
            f"LANGSMITH_API_KEY is unset while tracing is on, wanted a key for {display_url(endpoint)}: no run arrives "
            f"there; set it, or set {name} to 'false'."
        )


def _refused(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield values with which the SDK refuses to build its client, so that nothing is traced."""
    if not is_tracing(environ):
        return
    if (endpoints := variables(environ, "RUNS_ENDPOINTS")) and (single := variables(environ, "ENDPOINT")):
        yield f"{single[0][0]} and {endpoints[0][0]} are both set: LangSmith's client refuses that; unset one of them."
    for name, value in variables(environ, "TRACING_SAMPLING_RATE")[:1]:
        try:
            rate = float(value)
        except ValueError:
            rate = -1.0
        if not 0 <= rate <= 1:
            yield f"{name} is {_quoted(value)}, wanted a number from 0 to 1: LangSmith's client refuses it; correct it."
        elif rate == 0:
            yield f"{name} is {_quoted(value)}: no run is traced; raise it, or turn tracing off."


def _mode(environ: Mapping[str, str]) -> Iterator[str]:
    """Yield OTLP settings that the SDK does not know, or that are set while nothing is traced."""
    if modes := variables(environ, "TRACING_MODE"):
        name, value = modes[0]
        if value.lower() not in MODES:
            yield (
                f"{name} is {_quoted(value)}, wanted 'langsmith', 'hybrid' or 'otel': LangSmith's client refuses it, "
                "so nothing is traced; correct it or unset it."
            )
    else:
        for name, value in (*variables(environ, "OTEL_ENABLED")[:1], *variables(environ, "OTEL_ONLY")[:1]):
            if not is_truish(value) and not _means_off(value):
                yield f"{name} is {_quoted(value)}, wanted 'true' or '1': it is read as off; write 'true' or unset it."
    if otel_of(environ) != "off" and not variables(environ, *TRACING):
        yield "OTLP is asked for, but tracing is off: nothing is sent; set LANGSMITH_TRACING to 'true'."


def _packages() -> Iterator[str]:
    for module in _OTEL_MODULES:
        if not _importable(module):
            yield (
                f"OTLP is on, but {module} cannot be imported: runs go to LangSmith alone, unless the application "
                "sets a TracerProvider of its own; install eco2-callbacks[otel]."
            )
            return


def _quoted(value: str) -> str:
    # A longer value may be a key in the wrong variable.
    return repr(value) if len(value) <= _LONGEST else f"a text of {len(value)} characters"


def _means_off(value: str) -> bool:
    return value.strip().lower() in _OFF


def _importable(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except Exception:  # a package above it is missing or broken
        return False
