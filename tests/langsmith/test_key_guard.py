"""LangSmith's OpenTelemetry mode: spans reach an OTLP receiver, and LangSmith's key does not."""

from __future__ import annotations

import pytest

from eco2_callbacks.langsmith.key_guard import withhold_langsmith_key
from tests.support.otlp_tracing import FOREIGN, KEY, MODES, each_mode, tracing


def test_without_the_handler_the_key_is_sent() -> None:
    """LangSmith's SDK sends its key to whatever OTLP endpoint is set."""
    with tracing("no-handler", **MODES["hybrid"]) as traced:
        assert [request.headers.get("x-api-key") for request in traced.otlp.exports] == [KEY]


@each_mode
def test_the_key_stays_and_the_spans_arrive(mode: dict[str, str]) -> None:
    """Spans of graph, node and call arrive with their tokens, and no request holds the key."""
    with tracing(**mode) as traced:
        assert traced.otlp.exports
        assert not [request for request in traced.otlp.requests if request.holds(KEY)]
        assert not {"x-api-key", "langsmith-project"} & set(traced.otlp.exports[0].headers)
        root, node, call = (traced.otlp.spans[name] for name in ("LangGraph", "answer", "FakeModel"))
        assert (root.parent_id, node.parent_id, call.parent_id) == ("", root.span_id, node.span_id)
        tokens = {name: value for name, value in call.attributes.items() if name.startswith("gen_ai.usage.")}
        assert tokens == {
            "gen_ai.usage.input_tokens": 1200,
            "gen_ai.usage.output_tokens": 350,
            "gen_ai.usage.total_tokens": 1550,
        }
        assert call.attributes["gen_ai.request.model"] == "gpt-5.2"
        assert call.attributes["gen_ai.system"] == "openai"
        assert traced.headers == ","
        assert traced.log.count("LangSmith's API key") == 1


@each_mode
@pytest.mark.slow
def test_langsmith_gets_the_runs_in_hybrid_mode_only(mode: dict[str, str]) -> None:
    """Hybrid mode sends to LangSmith and OTLP; the other mode sends nothing to LangSmith."""
    with tracing(**mode) as traced:
        if mode is MODES["hybrid"]:
            assert all(request.headers["x-api-key"] == KEY for request in traced.langsmith.runs)
            assert b"FakeModel" in b"".join(request.body for request in traced.langsmith.runs)
        else:
            assert traced.langsmith.requests == []


@pytest.mark.slow
def test_langsmiths_own_endpoint_gets_its_key() -> None:
    """LangSmith's own OTLP endpoint gets the key, and LANGSMITH_ENDPOINT says where it is."""
    with tracing(
        LANGSMITH_TRACING_MODE="otel", LANGSMITH_ENDPOINT="{otlp}", OTEL_EXPORTER_OTLP_ENDPOINT="{otlp}/otel"
    ) as traced:
        (export,) = traced.otlp.exports
        assert (export.path, export.headers["x-api-key"]) == ("/otel/v1/traces", KEY)
        assert (traced.headers, traced.log) == (None, "")


@pytest.mark.slow
def test_headers_that_are_set_are_sent_as_they_are() -> None:
    """An application that sets headers sets all of them."""
    headers = "authorization=Bearer collector"

    with tracing(**MODES["only"], OTEL_EXPORTER_OTLP_HEADERS=headers) as traced:
        (export,) = traced.otlp.exports
        assert export.headers["authorization"] == "Bearer collector"
        assert not export.holds(KEY)
        assert (traced.headers, traced.log) == (headers, "")


@pytest.mark.slow
def test_headers_of_traces_alone_are_sent_without_the_key() -> None:
    """The more specific variable for traces keeps its meaning, and metric exporters do not get its token."""
    with tracing(**MODES["only"], OTEL_EXPORTER_OTLP_TRACES_HEADERS="authorization=Bearer collector") as traced:
        (export,) = traced.otlp.exports
        assert export.headers["authorization"] == "Bearer collector"
        assert not export.holds(KEY)
        assert traced.headers == ","


@pytest.mark.slow
def test_an_applications_own_provider_is_unchanged_and_gives_the_exemplars() -> None:
    """No key is sent over the application's provider, and its current span is on every record."""
    with tracing("own-provider", LANGSMITH_TRACING_MODE="hybrid") as traced:
        assert not [request for request in traced.otlp.requests if request.holds(KEY)]
        assert (traced.headers, traced.log) == (None, "")
        request = traced.otlp.spans["request"]
        assert {span.trace_id for span in traced.otlp.spans.values()} == {request.trace_id}
        assert {(record["trace_id"], record["span_id"]) for record in traced.records} == {
            (request.trace_id, request.span_id)
        }


@pytest.mark.slow
def test_span_ids_that_langsmith_does_not_export_are_no_exemplar() -> None:
    """Within @traceable the SDK's current span has ids that it does not export."""
    with tracing("traceable", **MODES["hybrid"]) as traced:
        assert set(traced.otlp.spans) == {"request", "LangGraph", "answer", "FakeModel"}
        assert {record["trace_id"] for record in traced.records} == {None}


def test_a_client_made_before_the_handler_gives_a_warning() -> None:
    """The exporter then already holds the key; the log says so and how to avoid it."""
    with tracing("client-first", LANGSMITH_TRACING_MODE="otel") as traced:
        assert traced.otlp.exports[0].headers["x-api-key"] == KEY
        assert traced.headers is None
        assert traced.log.strip() == (
            "LangSmith's client was made before Eco2CallbackHandler and may send LangSmith's API key to the OTLP "
            f"endpoint {traced.otlp.url}/v1/traces; set OTEL_EXPORTER_OTLP_HEADERS to the headers of that endpoint "
            "(',' for none), or make the handler first."
        )


@pytest.mark.parametrize(
    ("settings", "withheld"),
    [
        ({"LANGSMITH_OTEL_ENABLED": "true"}, True),
        ({"LANGSMITH_OTEL_ENABLED": "1"}, True),
        ({"LANGSMITH_OTEL_ENABLED": "false"}, False),
        ({"LANGSMITH_OTEL_ENABLED": "  "}, False),
        ({"LANGSMITH_OTEL_ONLY": "True"}, True),
        ({"LANGCHAIN_OTEL_ENABLED": "true"}, True),
        ({"LANGCHAIN_OTEL_ONLY": "true"}, True),
        ({"LANGSMITH_OTEL_ENABLED": "false", "LANGCHAIN_OTEL_ENABLED": "true"}, False),
        ({"LANGSMITH_TRACING_MODE": "otel"}, True),
        ({"LANGSMITH_TRACING_MODE": "Hybrid"}, True),
        ({"LANGCHAIN_TRACING_MODE": "hybrid"}, True),
        # SDKs before 0.10 know the older switch only.
        ({"LANGSMITH_TRACING_MODE": "langsmith", "LANGSMITH_OTEL_ENABLED": "true"}, True),
        ({"LANGSMITH_TRACING_MODE": "langsmith"}, False),
        ({}, False),
    ],
    ids=lambda value: ",".join(f"{k}={v}" for k, v in value.items()) or "nothing" if isinstance(value, dict) else "",
)
def test_the_mode_is_read_as_langsmiths_sdk_reads_it(settings: dict[str, str], withheld: bool) -> None:
    """The guard acts wherever some version of the SDK would use its OpenTelemetry mode."""
    environ = {**FOREIGN, **settings}

    assert withhold_langsmith_key(environ) is withheld
    assert environ.get("OTEL_EXPORTER_OTLP_HEADERS") == ("," if withheld else None)


@pytest.mark.parametrize(
    ("settings", "withheld"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.smith.langchain.com/otel"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://eu.api.smith.langchain.com:443/otel"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://api.smith.langchain.com/otel"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.smith.langchain.com.example.org"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://smithlangchain.com"}, True),
        # URL parsers disagree about the host here.
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": r"https://evil.example\@api.smith.langchain.com"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": r"https://evil.example\.langchain.com"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[collector"}, True),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "https://api.smith.langchain.com/otel",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces",
            },
            True,
        ),
        (
            {
                "LANGSMITH_ENDPOINT": '"http://localhost:1984/api/"',
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://LOCALHOST:1984",
            },
            False,
        ),
        ({"LANGSMITH_ENDPOINT": "http://localhost:1984", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"LANGSMITH_API_KEY": ""}, False),
        ({"LANGSMITH_API_KEY": "", "LANGCHAIN_API_KEY": KEY}, True),
        ({"OTEL_EXPORTER_OTLP_HEADERS": ""}, True),
        ({"OTEL_EXPORTER_OTLP_HEADERS": " "}, False),
        ({"OTEL_EXPORTER_OTLP_HEADERS": "a=b"}, False),
        ({"OTEL_PYTHON_TRACER_PROVIDER": "sdk_tracer_provider"}, False),
    ],
    ids=[
        *("no_endpoint", "langsmith", "langsmith_eu", "langsmith_in_clear", "name_that_begins_alike"),
        *(
            "name_that_ends_alike",
            "backslash",
            "backslash_in_the_name",
            "no_url",
            "broken_url",
            "traces_endpoint_wins",
            "self_hosted",
            "other_port",
        ),
        *("no_key", "old_spelling_of_the_key", "empty_headers", "blank_headers", "headers", "provider_by_environment"),
    ],
)
def test_only_a_foreign_endpoint_without_headers_is_guarded(settings: dict[str, str], withheld: bool) -> None:
    """Where the key belongs, or would not be sent, nothing is changed."""
    environ = {**FOREIGN, "LANGSMITH_OTEL_ENABLED": "true", **settings}
    before = dict(environ)

    assert withhold_langsmith_key(environ) is withheld
    assert environ == ({**before, "OTEL_EXPORTER_OTLP_HEADERS": ","} if withheld else before)


def test_the_guard_warns_once_without_the_secrets_of_the_url(caplog: pytest.LogCaptureFixture) -> None:
    """One warning names the endpoint, what was done and what to set."""
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://eco2:password@collector/otlp?token=secret"}
    environ = {**FOREIGN, "LANGSMITH_OTEL_ENABLED": "true", **endpoint}

    assert withhold_langsmith_key(environ)
    assert not withhold_langsmith_key(environ)

    assert caplog.messages == [
        "LangSmith's SDK would send LangSmith's API key to the OTLP endpoint https://collector/otlp, because "
        "OTEL_EXPORTER_OTLP_HEADERS is not set. It was set to ',', which means no header, so the key is not sent. "
        "Set it to the headers of the endpoint, or to ','."
    ]
