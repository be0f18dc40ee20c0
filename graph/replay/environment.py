"""Replaces environment variables that would change recorded requests."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

__all__ = ["DUMMY_KEY", "KEYS", "REPLAY_SETTINGS", "clean_environment", "provider_environment"]

KEYS: Final = (
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "KAKAO_REST_API_KEY",
    "KMA_SERVICE_KEY",
    "KECO_SERVICE_KEY",
    "BULK_WASTE_SERVICE_KEY",
    "RECYCLABLE_PRICE_SERVICE_KEY",
)
"""The variables with the keys of all recorded providers and services."""

DUMMY_KEY: Final = "replayed-without-a-key"

REPLAY_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        **dict.fromkeys(KEYS, DUMMY_KEY),
        # A service that a slow machine replays too late would change the requests that follow.
        "ECO2_CLIENT_TIMEOUT_SECONDS": "60",
    }
)
"""The variables for a replay."""

# Settings that change requests, hosts or proxies, or that send requests of their own.
_SETTINGS = re.compile(
    r"(GEMINI|GOOGLE|LANGCHAIN|LANGSMITH|OPENAI|OTEL)_.*|ECO2_\w+_(URL|MODEL)|(all|http|https|no)_proxy", re.IGNORECASE
)


@contextmanager
def provider_environment(kept: Collection[str] = (), /, **variables: str) -> Iterator[None]:
    """Replace all settings of providers, services, proxies and tracing by these variables during the block.

    Args:
        kept: Names of settings to keep.
        variables: Variables to set.
    """
    before = {
        name: value
        for name, value in os.environ.items()
        if (_SETTINGS.fullmatch(name) and name not in kept) or name in variables
    }
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def clean_environment(**variables: str) -> Iterator[None]:
    """Do the same as :func:`provider_environment`, and remove all ``ECO2_`` settings too."""
    eco2_settings = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ECO2_")}
    try:
        with provider_environment(**variables):
            yield
    finally:
        os.environ.update(eco2_settings)
