"""The lifetime of Claude's cache writes where the answer does not split them: the request's breakpoints set it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec.structs import replace

from eco2_callbacks.usage.providers.base import Exchange
from eco2_callbacks.usage.reported import Reading

__all__ = ["with_requested_lifetime"]

_ONE_HOUR = "1h"
_DEFAULT = "5m"
# Anthropic's name of a breakpoint, and that of Bedrock's Converse API.
_BREAKPOINTS = ("cache_control", "cachePoint")


def with_requested_lifetime(reading: Reading, exchange: Exchange) -> Reading:
    """Return the reading with the lifetime of those cache writes that its split leaves out.

    ======================================  ================================================
    The request's breakpoints               The writes without a split
    ======================================  ================================================
    all for an hour                         are written for an hour
    none, or all for five minutes           are billed as written for five minutes
    for both lifetimes                      can be either: the reading is not certain
    ======================================  ================================================

    Source: https://platform.claude.com/docs/en/build-with-claude/prompt-caching#1-hour-cache-duration
    """
    usage = reading.usage
    unsplit = usage.cache_creation_tokens - usage.cache_creation_5m_tokens - usage.cache_creation_1h_tokens
    if unsplit <= 0:
        return reading
    contents = (message.content for message in exchange.prompt)
    lifetimes = set(_lifetimes([exchange.params, exchange.model_kwargs, *contents]))
    if _ONE_HOUR not in lifetimes:
        return reading
    if len(lifetimes) > 1:
        return Reading(usage, is_consistent=False)
    counts = replace(usage, cache_creation_1h_tokens=usage.cache_creation_1h_tokens + unsplit)
    return Reading(counts, reading.is_consistent)


def _lifetimes(value: object) -> Iterator[str]:
    """Yield the lifetime of each breakpoint in a part of the request."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key in _BREAKPOINTS and isinstance(inner, Mapping):
                yield str(inner.get("ttl") or _DEFAULT)
            else:
                yield from _lifetimes(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _lifetimes(inner)
