"""Warnings about the environment: each names the value, what was wanted and what to do, and never a key."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langsmith import client as sdk_client
from langsmith import utils as sdk

from eco2_callbacks.langsmith import env_checks
from eco2_callbacks.langsmith.env_checks import check_environment

KEY = "lsv2_pt_s3cret"
TRACED = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": KEY}
COLLECTOR = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:s3cret@collector:4318"}
NO_KEY = (
    "LANGSMITH_API_KEY is unset while tracing is on, wanted a key for https://api.smith.langchain.com: no run arrives "
    "there; set it, or set LANGSMITH_TRACING to 'false'."
)
V1 = (
    "LANGCHAIN_TRACING is '1' while tracing is off: langchain-core raises RuntimeError at every call; unset it "
    "(LANGSMITH_TRACING=true turns tracing on)."
)
OTLP_WITHOUT_TRACING = "OTLP is asked for, but tracing is off: nothing is sent; set LANGSMITH_TRACING to 'true'."
VALID: dict[str, dict[str, str]] = {
    "nothing": {},
    "traced": TRACED,
    "traced_older": {"LANGCHAIN_TRACING_V2": "true", "LANGCHAIN_API_KEY": KEY},
    "all_switches_agree": {**TRACED, "LANGCHAIN_TRACING_V2": "true", "LANGCHAIN_TRACING": "true"},
    "key_without_tracing": {"LANGSMITH_API_KEY": KEY},
    "off": {"LANGSMITH_TRACING": "false"},
    "off_capital": {"LANGCHAIN_TRACING_V2": "False"},
    "off_oldest": {"LANGCHAIN_TRACING": "0"},
    "own_langsmith_needs_no_key": {"LANGSMITH_TRACING": "true", "LANGSMITH_ENDPOINT": "http://langsmith.internal"},
    "v1_is_ignored_while_tracing": {**TRACED, "LANGCHAIN_TRACING": "1", "LANGCHAIN_HANDLER": "langchain"},
    "otlp_at_langsmith": {**TRACED, "LANGSMITH_OTEL_ENABLED": "true"},
    "own_endpoints_bring_their_keys": {"LANGSMITH_TRACING": "true", "LANGSMITH_RUNS_ENDPOINTS": '{"https://ls": "k"}'},
    "otlp_with_headers": {
        **TRACED,
        **COLLECTOR,
        "LANGSMITH_OTEL_ONLY": "true",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-token=s3cret",
    },
    # The handler withholds the key from this endpoint and logs that itself.
    "otlp_without_headers": {**TRACED, "LANGSMITH_OTEL_ONLY": "true", **COLLECTOR},
    "otlp_without_a_key_to_withhold": {"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ONLY": "true", **COLLECTOR},
    "otlp_at_own_langsmith": {
        **TRACED,
        "LANGSMITH_ENDPOINT": "https://langsmith.internal/api/v1",
        "LANGSMITH_TRACING_MODE": "otel",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "https://langsmith.internal/otel",
    },
    "otlp_off": {**TRACED, **COLLECTOR, "LANGSMITH_OTEL_ENABLED": "false"},
    "otlp_while_tracing_is_turned_off": {"LANGSMITH_TRACING": "false", "LANGSMITH_OTEL_ENABLED": "true", **COLLECTOR},
    "mode_outranks_the_switches": {**TRACED, "LANGSMITH_TRACING_MODE": "langsmith", "LANGSMITH_OTEL_ENABLED": "yes"},
}
INVALID: dict[str, tuple[dict[str, str], list[str]]] = {
    "no_key": ({"LANGSMITH_TRACING": "true"}, [NO_KEY]),
    "quotes_are_no_key": ({"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": '""'}, [NO_KEY]),
    "no_key_beside_otlp": ({"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ENABLED": "true"}, [NO_KEY]),
    "no_key_older_switch_other_region": (
        {"LANGCHAIN_TRACING_V2": "true", "LANGCHAIN_ENDPOINT": "https://eu.api.smith.langchain.com"},
        [
            "LANGSMITH_API_KEY is unset while tracing is on, wanted a key for https://eu.api.smith.langchain.com: no "
            "run arrives there; set it, or set LANGCHAIN_TRACING_V2 to 'false'."
        ],
    ),
    "capital_true": (
        {"LANGSMITH_TRACING": "True"},
        [
            "LANGSMITH_TRACING is 'True', wanted 'true': tracing stays off; write 'true', or 'false' to keep it off.",
        ],
    ),
    "a_key_in_the_wrong_place": (
        {"LANGSMITH_TRACING": KEY},
        [
            "LANGSMITH_TRACING is a text of 14 characters, wanted 'true': tracing stays off; write 'true', or 'false' "
            "to keep it off."
        ],
    ),
    "number": (
        {"LANGCHAIN_TRACING_V2": "1"},
        ["LANGCHAIN_TRACING_V2 is '1', wanted 'true': tracing stays off; write 'true', or 'false' to keep it off."],
    ),
    "older_switch_turns_off": (
        {**TRACED, "LANGCHAIN_TRACING_V2": "false"},
        [
            "LANGCHAIN_TRACING_V2 is 'false' and outranks LANGSMITH_TRACING, which is 'true': "
            "tracing is off; unset one of them."
        ],
    ),
    "older_switch_turns_on": (
        {**TRACED, "LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "true"},
        [
            "LANGCHAIN_TRACING_V2 is 'true' and outranks LANGSMITH_TRACING, which is 'false': "
            "tracing is on; unset one of them."
        ],
    ),
    "removed_tracer": ({"LANGCHAIN_TRACING": "1"}, [V1]),
    "removed_tracer_beside_a_misread_switch": (
        {"LANGSMITH_TRACING": "on", "LANGCHAIN_TRACING": "1"},
        ["LANGSMITH_TRACING is 'on', wanted 'true': tracing stays off; write 'true', or 'false' to keep it off.", V1],
    ),
    "removed_tracer_outranked": (
        {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING": "true"},
        [
            "LANGSMITH_TRACING is 'false' and outranks LANGCHAIN_TRACING, which is 'true': "
            "tracing is off; unset one of them.",
            V1.replace("'1'", "'true'"),
        ],
    ),
    "removed_handler": (
        {"LANGCHAIN_HANDLER": "langchain"},
        [V1.replace("LANGCHAIN_TRACING is '1'", "LANGCHAIN_HANDLER is 'langchain'")],
    ),
    "unknown_mode": (
        {**TRACED, "LANGSMITH_TRACING_MODE": "both"},
        [
            "LANGSMITH_TRACING_MODE is 'both', wanted 'langsmith', 'hybrid' or 'otel': LangSmith's client refuses it, "
            "so nothing is traced; correct it or unset it."
        ],
    ),
    "misread_otlp_switches": (
        {**TRACED, "LANGSMITH_OTEL_ENABLED": "yes", "LANGCHAIN_OTEL_ONLY": "true "},
        [
            "LANGSMITH_OTEL_ENABLED is 'yes', wanted 'true' or '1': it is read as off; write 'true' or unset it.",
            "LANGCHAIN_OTEL_ONLY is 'true ', wanted 'true' or '1': it is read as off; write 'true' or unset it.",
        ],
    ),
    "otlp_at_langsmith_without_key": ({"LANGSMITH_TRACING": "true", "LANGSMITH_OTEL_ONLY": "true"}, [NO_KEY]),
    "two_kinds_of_endpoint": (
        {**TRACED, "LANGSMITH_ENDPOINT": "https://ls", "LANGSMITH_RUNS_ENDPOINTS": '{"https://ls": "k"}'},
        [
            "LANGSMITH_ENDPOINT and LANGSMITH_RUNS_ENDPOINTS are both set: LangSmith's client refuses that; unset one "
            "of them."
        ],
    ),
    "sampling_too_high": (
        {**TRACED, "LANGSMITH_TRACING_SAMPLING_RATE": "2"},
        [
            "LANGSMITH_TRACING_SAMPLING_RATE is '2', wanted a number from 0 to 1: LangSmith's client refuses it; "
            "correct it."
        ],
    ),
    "sampling_no_number": (
        {**TRACED, "LANGCHAIN_TRACING_SAMPLING_RATE": "half"},
        [
            "LANGCHAIN_TRACING_SAMPLING_RATE is 'half', wanted a number from 0 to 1: LangSmith's client refuses it; "
            "correct it."
        ],
    ),
    "sampling_nothing": (
        {**TRACED, "LANGSMITH_TRACING_SAMPLING_RATE": "0.0"},
        ["LANGSMITH_TRACING_SAMPLING_RATE is '0.0': no run is traced; raise it, or turn tracing off."],
    ),
    "otlp_without_tracing": ({"LANGSMITH_OTEL_ENABLED": "true", **COLLECTOR}, [OTLP_WITHOUT_TRACING]),
    "mode_without_tracing": ({"LANGSMITH_TRACING_MODE": "otel"}, [OTLP_WITHOUT_TRACING]),
}


@pytest.fixture(autouse=True)
def opentelemetry_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(env_checks, "find_spec", lambda module: object())


@pytest.mark.parametrize("environ", VALID.values(), ids=VALID)
def test_a_valid_environment_gives_no_warning(environ: dict[str, str]) -> None:
    """A switch that is off on purpose, or an endpoint that needs no key, gives no warning."""
    assert list(check_environment(environ)) == []


@pytest.mark.parametrize(("environ", "warned"), INVALID.values(), ids=INVALID)
def test_each_mistake_gives_one_warning(environ: dict[str, str], warned: list[str]) -> None:
    """The warnings are exactly these, in this order, without a key or password."""
    assert list(check_environment(environ)) == warned
    assert "s3cret" not in "".join(warned)


@pytest.mark.parametrize(
    ("missing", "raises"),
    [
        ("opentelemetry.sdk.trace", True),
        ("opentelemetry.exporter.otlp.proto.http.trace_exporter", False),
    ],
    ids=["all_of_it", "the_exporter"],
)
def test_otlp_without_its_packages_gives_a_warning(monkeypatch: pytest.MonkeyPatch, missing: str, raises: bool) -> None:
    """One sentence names the missing module and the package to install."""

    def find_spec(module: str) -> Any:
        if module == missing and raises:
            raise ModuleNotFoundError(module)
        return None if module == missing else object()

    monkeypatch.setattr(env_checks, "find_spec", find_spec)

    assert list(check_environment({**TRACED, "LANGSMITH_OTEL_ENABLED": "true"})) == [
        f"OTLP is on, but {missing} cannot be imported: runs go to LangSmith alone, unless the application sets a "
        "TracerProvider of its own; install eco2-callbacks[otel]."
    ]
    assert list(check_environment(TRACED)) == []


# The SDK checks only the switch and the hosted endpoint, not OTLP and not endpoints with their own keys.
NOT_CHECKED_BY_SDK = {"own_endpoints_bring_their_keys", "otlp_at_langsmith_without_key"}


@pytest.mark.parametrize(
    "environ",
    [environ for name, environ in VALID.items() if name not in NOT_CHECKED_BY_SDK]
    + [environ for name, (environ, _) in INVALID.items() if name not in NOT_CHECKED_BY_SDK],
)
def test_the_sdk_warns_about_the_same(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's client warns about a missing key, or refuses the mode, in the same environments."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    sdk.get_env_var.cache_clear()
    refused = False

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            mode = sdk_client._resolve_tracing_mode(None)
            sdk_client._get_tracing_sampling_rate(None)
            sdk_client._validate_api_key_if_hosted(sdk.get_api_url(None), sdk.get_api_key(None), tracing_mode=mode)
        except (sdk.LangSmithUserError, ValueError):
            refused = True

    warned = " ".join(check_environment(environ))
    assert ("LANGSMITH_API_KEY is unset" in warned) == (
        sdk.LangSmithMissingAPIKeyWarning in {w.category for w in caught}
    )
    assert ("LangSmith's client refuses it" in warned) == refused
    sdk.get_env_var.cache_clear()


@pytest.mark.parametrize("value", ["1", "True", "yes", " ", "", "0", "false", "False", "no"])
@pytest.mark.parametrize("name", ["LANGCHAIN_TRACING", "LANGCHAIN_HANDLER"])
def test_langchain_raises_exactly_where_we_warn(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call of a runnable raises exactly where the warning appears."""
    monkeypatch.setenv(name, value)
    sdk.get_env_var.cache_clear()

    try:
        RunnableLambda(str).invoke(1)
    except RuntimeError:
        raised = True
    else:
        raised = False

    assert [f"{name} is {value!r} while tracing is off" in text for text in check_environment({name: value})] == [
        True
    ] * raised
    sdk.get_env_var.cache_clear()
