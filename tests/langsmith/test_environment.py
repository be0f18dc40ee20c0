"""The environment as LangSmith's SDK reads it: every rule is compared with the SDK's own result."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langsmith import client as sdk_client
from langsmith import utils as sdk
from langsmith._internal.otel import _otel_client as sdk_otel

from eco2_callbacks.langsmith.environment import (
    HOSTED,
    MODES,
    api_key_of,
    display_url,
    endpoint_of,
    is_hosted,
    is_tracing,
    may_receive_key,
    otel_of,
    otlp_endpoint_of,
    project_of,
    traces_url,
)

ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing": {},
    "tracing": {"LANGSMITH_TRACING": "true"},
    "tracing_older": {"LANGCHAIN_TRACING_V2": "true"},
    "tracing_oldest": {"LANGCHAIN_TRACING": "true"},
    "tracing_capital": {"LANGSMITH_TRACING": "True"},
    "tracing_number": {"LANGSMITH_TRACING": "1"},
    "tracing_padded": {"LANGSMITH_TRACING": " true "},
    "tracing_false": {"LANGSMITH_TRACING": "false"},
    "tracing_blank_is_unset": {"LANGSMITH_TRACING": "  ", "LANGCHAIN_TRACING": "true"},
    "tracing_v2_blank_is_unset": {
        "LANGSMITH_TRACING_V2": "",
        "LANGCHAIN_TRACING_V2": "\t",
        "LANGSMITH_TRACING": "true",
    },
    "tracing_v2_before_tracing_on": {"LANGCHAIN_TRACING_V2": "true", "LANGSMITH_TRACING": "false"},
    "tracing_v2_before_tracing_off": {"LANGCHAIN_TRACING_V2": "false", "LANGSMITH_TRACING": "true"},
    "tracing_newer_before_older": {"LANGSMITH_TRACING_V2": "true", "LANGCHAIN_TRACING_V2": "false"},
    "key": {"LANGSMITH_API_KEY": "ls-new"},
    "key_older": {"LANGCHAIN_API_KEY": "ls-old"},
    "key_newer_before_older": {"LANGSMITH_API_KEY": "ls-new", "LANGCHAIN_API_KEY": "ls-old"},
    "key_blank_is_unset": {"LANGSMITH_API_KEY": "  ", "LANGCHAIN_API_KEY": "ls-old"},
    "key_quoted": {"LANGSMITH_API_KEY": ' "ls-new"\n'},
    "key_single_quoted": {"LANGSMITH_API_KEY": "'ls-new'"},
    "key_of_quotes_only": {"LANGSMITH_API_KEY": '""'},
    "endpoint": {"LANGSMITH_ENDPOINT": "https://eu.api.smith.langchain.com/"},
    "endpoint_older": {"LANGCHAIN_ENDPOINT": " 'http://langsmith.internal:1984/api' "},
    "endpoint_newer_before_older": {"LANGSMITH_ENDPOINT": "http://new", "LANGCHAIN_ENDPOINT": "http://old"},
    "project": {"LANGSMITH_PROJECT": "eco2"},
    "project_older": {"LANGCHAIN_PROJECT": "eco2-old"},
    "project_oldest": {"LANGCHAIN_SESSION": "eco2-oldest"},
    "project_before_session": {"LANGCHAIN_PROJECT": "eco2-old", "LANGSMITH_SESSION": "eco2-oldest"},
    "project_blank_is_unset": {"LANGSMITH_PROJECT": " ", "LANGCHAIN_SESSION": "eco2-oldest"},
    "project_of_langserve": {"HOSTED_LANGSERVE_PROJECT_NAME": "hosted", "LANGSMITH_PROJECT": "eco2"},
    "project_of_langserve_empty": {"HOSTED_LANGSERVE_PROJECT_NAME": "", "LANGSMITH_PROJECT": "eco2"},
    "otel_hybrid": {"LANGSMITH_OTEL_ENABLED": "true"},
    "otel_truish": {"LANGSMITH_OTEL_ENABLED": "TRUE", "LANGSMITH_OTEL_ONLY": "1"},
    "otel_not_truish": {"LANGSMITH_OTEL_ENABLED": "yes"},
    "otel_padded_is_not_truish": {"LANGSMITH_OTEL_ENABLED": " true"},
    "otel_only": {"LANGSMITH_OTEL_ONLY": "true"},
    "otel_both": {"LANGSMITH_OTEL_ENABLED": "true", "LANGCHAIN_OTEL_ONLY": "true"},
    "mode_langsmith": {"LANGSMITH_TRACING_MODE": "langsmith"},
    "mode_hybrid": {"LANGSMITH_TRACING_MODE": "Hybrid"},
    "mode_otel_older": {"LANGCHAIN_TRACING_MODE": "otel"},
    "mode_before_switches": {"LANGSMITH_TRACING_MODE": "langsmith", "LANGSMITH_OTEL_ONLY": "true"},
    "mode_blank_is_unset": {"LANGSMITH_TRACING_MODE": " ", "LANGSMITH_OTEL_ENABLED": "true"},
    "otlp_base": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
    "otlp_base_slash": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"},
    "otlp_base_with_traces": {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/traces"},
    "otlp_traces": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/x"},
    "otlp_traces_before_base": {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces/x",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://base",
    },
    "otlp_empty_is_unset": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "", "OTEL_EXPORTER_OTLP_ENDPOINT": ""},
    "otlp_at_langsmith": {"LANGSMITH_ENDPOINT": "https://eu.api.smith.langchain.com"},
}


def clear_sdk_caches() -> None:
    sdk.get_env_var.cache_clear()
    sdk.get_tracer_project.cache_clear()


@pytest.fixture(params=ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def environ(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Set one environment after the other, and clear what the SDK has cached."""
    monkeypatch.delenv("HOSTED_LANGSERVE_PROJECT_NAME", raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)
    clear_sdk_caches()
    yield request.param
    clear_sdk_caches()


def test_every_variable_is_read_as_the_sdk_reads_it(environ: dict[str, str]) -> None:
    """Switch, key, endpoint, project and mode equal what the SDK's own functions return."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK warns about a mode beside the older switches
        mode = sdk_client._resolve_tracing_mode(None)

    assert is_tracing(environ) == sdk.tracing_is_enabled()
    assert api_key_of(environ) == (sdk.get_api_key(None) or None)
    assert endpoint_of(environ) == sdk.get_api_url(None)
    assert project_of(environ) == (sdk.get_tracer_project() or "default")
    assert otel_of(environ) == MODES[mode]
    assert dict(environ).items() <= os.environ.items()


def test_spans_go_where_the_sdk_sends_them(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The OTLP address equals the one that the SDK gives its exporter."""
    endpoints = []

    class Exporter:
        def __init__(self, endpoint: str, headers: Any) -> None:
            endpoints.append(endpoint)

    class Provider:
        def __init__(self, resource: Any = None, attributes: Any = None) -> None: ...

        def add_span_processor(self, processor: Any) -> None: ...

    monkeypatch.setattr(sdk_otel, "_import_otel_client", lambda: (Exporter, "name", Provider, Provider, Provider))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK warns about a base that ends in /traces
        sdk_otel.get_otlp_tracer_provider()

    assert endpoints == [otlp_endpoint_of(environ) or traces_url(f"{endpoint_of(environ)}/otel")]


def test_a_mode_that_the_sdk_refuses_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK builds no client for an unknown mode, so nothing is sent over OTLP."""
    monkeypatch.setenv("LANGSMITH_TRACING_MODE", "both")
    clear_sdk_caches()

    with pytest.raises(sdk.LangSmithUserError, match="hybrid, langsmith, otel"):
        sdk_client._resolve_tracing_mode(None)

    assert otel_of({"LANGSMITH_TRACING_MODE": "both", "LANGSMITH_OTEL_ENABLED": "true"}) == "off"
    clear_sdk_caches()


@pytest.mark.parametrize(
    "url",
    [
        *(HOSTED, "https://eu.api.smith.langchain.com/otel/v1/traces", "https://langchain.com:443", "langchain.com"),
        *("http://localhost:1984", "https://langchain.com.example.org", "https://notlangchain.com", "", "http://[::1"),
    ],
)
def test_the_hosted_service_is_recognised_as_the_sdk_does(url: str) -> None:
    """The hosted service is recognised by its host alone."""
    assert is_hosted(url) == sdk_client._is_langchain_hosted(url)


def test_the_key_may_go_to_langsmith_alone() -> None:
    """The key may go to LangSmith's own origin, or by https to the hosted service, and nowhere else."""
    own = "https://langsmith.internal/api/v1"

    assert may_receive_key("https://langsmith.internal:443/otel/v1/traces", own)
    assert not may_receive_key("https://collector.internal/v1/traces", own)
    assert not may_receive_key("https://api.smith.langchain.com:x@collector.internal", own)
    assert not may_receive_key("", "")
    assert not may_receive_key("http://127.0.0.1:4318/v1/traces", "http://127.0.0.1:1984")
    assert may_receive_key("https://eu.api.smith.langchain.com/otel/v1/traces", own)
    assert not may_receive_key("http://api.smith.langchain.com/otel/v1/traces", own)


@pytest.mark.parametrize(
    ("url", "logged"),
    [
        ("http://collector:4318/v1/traces", "http://collector:4318/v1/traces"),
        ("https://user:p@ss@collector/v1/traces?token=s3cret#s3cret", "https://collector/v1/traces"),
        ("lsv2_pt_s3cret", "an address that is no URL"),
        ("collector:4318", "an address that is no URL"),
        ("http://[::1", "an address that is no URL"),
        ("http://[::1]:4318", "http://[::1]:4318"),
    ],
    ids=["plain", "with_secrets", "a_key_in_the_wrong_place", "without_scheme", "broken", "ipv6"],
)
def test_an_address_is_logged_without_secrets(url: str, logged: str) -> None:
    """User, password and query of a URL, and whatever is no URL, are not logged."""
    assert display_url(url) == logged
