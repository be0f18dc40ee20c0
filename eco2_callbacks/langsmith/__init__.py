"""LangSmith: cost and tags on its runs, its environment, and the protection of its key."""

from __future__ import annotations

from eco2_callbacks.langsmith.env_checks import check_environment
from eco2_callbacks.langsmith.environment import (
    HOSTED,
    Otel,
    api_key_of,
    display_url,
    endpoint_of,
    is_tracing,
    otel_of,
    otlp_endpoint_of,
    project_of,
    traces_url,
)
from eco2_callbacks.langsmith.features import Feature, Features, read_features
from eco2_callbacks.langsmith.key_guard import release_langsmith_key, withhold_langsmith_key
from eco2_callbacks.langsmith.observer import LangSmithObserver
from eco2_callbacks.langsmith.own_runs import RunTree, end_own_run, start_own_run

__all__ = [
    "HOSTED",
    "Feature",
    "Features",
    "LangSmithObserver",
    "Otel",
    "RunTree",
    "api_key_of",
    "check_environment",
    "display_url",
    "end_own_run",
    "endpoint_of",
    "is_tracing",
    "otel_of",
    "otlp_endpoint_of",
    "project_of",
    "read_features",
    "release_langsmith_key",
    "start_own_run",
    "traces_url",
    "withhold_langsmith_key",
]
