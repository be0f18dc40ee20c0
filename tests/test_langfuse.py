"""Langfuse beside the handler: its callback handler in either order, and LangSmith's OTLP mode sent to it."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
import yaml
from langfuse import Langfuse
from langfuse.langchain import CallbackHandler
from langgraph.graph import END, START, StateGraph
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LLMCall, Settings, run_config
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.otlp_receiver import Span, receiving
from tests.support.otlp_tracing import tracing
from tests.support.record_sink import Records, exposed

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "deploy" / "langfuse"
# gpt-5.2: 176 x 1.75 + 1024 read from the cache x 0.175; 350 x 14 USD per million tokens
USD = Decimal("0.0053872")
# Langfuse subtracts the details from the counts that include them.
USAGE = {"input": 176, "input_cache_read": 1024, "output": 222, "output_reasoning": 128, "total": 1550}
# Attributes that differ between runs.
VOLATILE = re.compile(r"completion_start_time|checkpoint_ns")

each_order = pytest.mark.parametrize("order", ["ours_first", "langfuse_first"])
each_call = pytest.mark.parametrize("call", ["invoke", "ainvoke", "stream", "astream"])


class State(TypedDict, total=False):
    answer: str
    intent: str


async def answer_async(state: State) -> State:
    """Stream the model."""
    chunks = [chunk.text async for chunk in FakeModel(usage=DETAILED_USAGE).astream("where does glass go?")]
    return {"answer": "".join(chunks), "intent": "waste"}


def answer(state: State) -> State:
    """Stream the model."""
    chunks = [chunk.text for chunk in FakeModel(usage=DETAILED_USAGE).stream("where does glass go?")]
    return {"answer": "".join(chunks), "intent": "waste"}


def fails(state: State) -> State:
    """Stream a model that fails after two chunks."""
    model = FakeModel(usage=DETAILED_USAGE, fails=[TimeoutError("too late")], fails_after=2)
    return {"answer": "".join(chunk.text for chunk in model.stream("where does glass go?"))}


def graph(node: Any) -> Any:
    built = StateGraph(State)
    built.add_node("answer", node)
    built.add_edge(START, "answer")
    built.add_edge("answer", END)
    return built.compile()


@dataclass
class Seen:
    """The records, metrics and spans of one request."""

    records: Records = field(default_factory=Records)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    spans: dict[str, Span] = field(default_factory=dict)

    @property
    def generation(self) -> dict[str, Any]:
        """The attributes of the model's span, with JSON values parsed."""
        return {name: _read(value) for name, value in self.spans["FakeModel"].attributes.items()}

    @property
    def counted(self) -> list[tuple[Any, ...]]:
        """The handler's records without ids and times."""
        return [
            (type(record).__name__, record.status, record.usage, record.cost, getattr(record, "node", ""))
            for record in self.records.all
        ]


@contextmanager
def measured(*who: str) -> Iterator[tuple[Seen, dict[str, Any]]]:
    """Yield a request's config with these handlers in this order; fill in what they recorded at the end."""
    seen, keys = Seen(), (f"pk-lf-{uuid4()}", "sk-lf-not-a-key")
    with receiving() as receiver, Eco2CallbackHandler(registry=seen.registry, sinks=[seen.records]) as ours:
        client = Langfuse(
            public_key=keys[0], secret_key=keys[1], base_url=receiver.url, tracer_provider=TracerProvider()
        )
        handlers = {"ours": ours, "langfuse": CallbackHandler(public_key=keys[0])}
        config = run_config(
            ours,
            job_id="7",
            session_id="s-1",
            user_id="u-1",
            tenant_id="acme",
            metadata={"langfuse_session_id": "s-1", "langfuse_user_id": "u-1"},
        )
        try:
            yield seen, {**config, "callbacks": [handlers[name] for name in who]}
        finally:
            client.flush()
            client.shutdown()
        seen.spans = receiver.spans
        if receiver.exports:
            assert {request.path for request in receiver.exports} == {"/api/public/otel/v1/traces"}
            assert receiver.exports[0].headers["authorization"] == _basic(*keys)


async def run(call: str, config: Any) -> Any:
    match call:
        case "invoke":
            return graph(answer).invoke({}, config)
        case "ainvoke":
            return await graph(answer_async).ainvoke({}, config)
        case "stream":
            return [*graph(answer).stream({}, config, stream_mode="values")][-1]
        case _:
            return [state async for state in graph(answer_async).astream({}, config, stream_mode="values")][-1]


@each_order
@each_call
async def test_both_handlers_are_correct_together(order: str, call: str) -> None:
    """Ours counts tokens and dollars once; Langfuse's generation has the usage, its trace session and user."""
    who = ("ours", "langfuse") if order == "ours_first" else ("langfuse", "ours")

    with measured(*who) as (seen, config):
        state = await run(call, config)

    assert state == {"answer": "sort it well", "intent": "waste"}
    assert (seen.records.call.status, seen.records.call.cost.total_usd) == ("success", USD)
    assert exposed(seen.registry, "llm_tokens_total") == 1550
    assert exposed(seen.registry, "llm_cost_dollars_total") == pytest.approx(float(USD), rel=1e-12)
    assert exposed(seen.registry, "graph_node_cost_dollars_total") == pytest.approx(float(USD), rel=1e-12)
    assert exposed(seen.registry, "eco2_callbacks_errors_total") == 0
    root, node, call_ = (seen.spans[name] for name in ("chat:7", "answer", "FakeModel"))
    assert (len(seen.spans), len({span.trace_id for span in seen.spans.values()})) == (3, 1)
    assert (root.parent_id, node.parent_id, call_.parent_id) == ("", root.span_id, node.span_id)
    assert (root.attributes["session.id"], root.attributes["user.id"]) == ("s-1", "u-1")
    assert seen.generation["langfuse.observation.type"] == "generation"
    assert seen.generation["langfuse.observation.usage_details"] == USAGE
    assert seen.generation["langfuse.observation.model.name"] == "gpt-5.2"
    assert seen.generation["langfuse.observation.metadata.job_id"] == "7"


@each_order
@each_call
async def test_neither_handler_changes_the_others_output(order: str, call: str) -> None:
    """Each handler reports the same beside the other as alone."""
    alone = {}
    for name in ("ours", "langfuse"):
        with measured(name) as (alone[name], config):
            await run(call, config)
    who = ("ours", "langfuse") if order == "ours_first" else ("langfuse", "ours")

    with measured(*who) as (seen, config):
        await run(call, config)

    assert seen.counted == alone["ours"].counted
    assert alone["ours"].spans == {}
    assert steady(seen.spans) == steady(alone["langfuse"].spans)
    assert alone["langfuse"].records.all == []


@each_order
def test_a_stream_that_fails_is_reported_by_both(order: str) -> None:
    """The failure is an estimate of the received text in our record and an error in Langfuse."""
    who = ("ours", "langfuse") if order == "ours_first" else ("langfuse", "ours")

    with measured(*who) as (seen, config), pytest.raises(TimeoutError):
        graph(fails).invoke({}, config)

    assert (seen.records.call.status, seen.records.call.estimated) == ("error", True)
    assert exposed(seen.registry, "llm_errors_total") == 1
    assert seen.generation["langfuse.observation.level"] == "ERROR"
    assert "too late" in seen.generation["langfuse.observation.status_message"]


def test_exemplars_lead_to_langfuse_s_trace_if_it_comes_first() -> None:
    """In synchronous code Langfuse's spans are current by then, so each record carries their ids."""
    with measured("langfuse", "ours") as (seen, config):
        graph(answer).invoke({}, config)

    ids = {(span.trace_id, span.span_id) for span in seen.spans.values()}
    assert {(record.otel_trace_id, record.otel_span_id) for record in seen.records.all} == ids


async def test_both_report_the_provider_s_numbers_for_the_chat_worker_s_graph() -> None:
    """Three calls of the official OpenAI model, one of them streamed, have the billed tokens in both."""
    from graph.app import make_handler, open_graph
    from graph.cli import QUESTIONS
    from graph.replay import replay
    from graph.runtime import CASSETTES
    from graph.state import turn

    keys, records = (f"pk-lf-{uuid4()}", "sk-lf-not-a-key"), Records()
    cassette = CASSETTES / "greeting.yaml"
    with (
        receiving() as receiver,
        replay(cassette),
        make_handler(Settings(), sinks=[records], registry=CollectorRegistry()) as ours,
    ):
        client = Langfuse(
            public_key=keys[0], secret_key=keys[1], base_url=receiver.url, tracer_provider=TracerProvider()
        )
        config = run_config(ours, job_id=1, session_id="s")
        config["callbacks"] = [ours, CallbackHandler(public_key=keys[0])]
        async with open_graph() as graph:
            await graph.ainvoke(turn(QUESTIONS["greeting"]), config)
        client.flush()
        client.shutdown()
        reported = [
            json.loads(span.attributes["langfuse.observation.usage_details"])
            for span in receiver.all_spans
            if span.attributes.get("langfuse.observation.type") == "generation"
        ]

    answers = yaml.safe_load(cassette.read_text(encoding="utf-8"))["interactions"]
    billed = sorted(int(re.findall(r'"total_tokens": ?(\d+)', _body(answer))[-1]) for answer in answers)
    assert sorted(usage["total"] for usage in reported) == billed
    assert sorted(_total(call) for call in records.calls) == billed


def test_langsmith_s_otlp_mode_reaches_langfuse() -> None:
    """The README's commands set path, both headers and tokens, and LangSmith gets no request."""
    (lines,) = _blocks("bash")
    assert "=https://langfuse.example.com/" in lines
    keys = {"LANGFUSE_PUBLIC_KEY": "pk-lf-1", "LANGFUSE_SECRET_KEY": "sk-lf-1" * 12}  # longer than base64's own lines
    completed = subprocess.run(
        ["bash", "-euc", f"{lines}\nenv -0"], env={**keys, "PATH": os.environ["PATH"]}, capture_output=True, check=True
    )
    variables = dict(
        pair.split("=", 1) for pair in completed.stdout.decode().split("\0") if pair.startswith(("LANGS", "OTEL"))
    )
    variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "{otlp}" + urlsplit(variables["OTEL_EXPORTER_OTLP_ENDPOINT"]).path

    with tracing(**variables) as traced:
        paths = {request.path for request in traced.otlp.exports}
        headers, spans = traced.otlp.exports[0].headers, traced.otlp.spans
        assert traced.langsmith.runs == []

    assert paths == {"/api/public/otel/v1/traces"}
    assert headers["authorization"] == _basic(*keys.values())
    assert headers["x-langfuse-ingestion-version"] == "4"
    assert spans["FakeModel"].attributes["gen_ai.usage.total_tokens"] == 1550


def test_the_example_of_its_sdk_runs() -> None:
    """The README's example runs in a process of its own, since it configures OpenTelemetry globally."""
    (example,) = _blocks("python")
    program = f"from test_langfuse import answer, graph\ngraph = graph(answer)\n{example}"
    with receiving() as receiver:
        environment = {
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests"))),
            "LANGFUSE_PUBLIC_KEY": "pk-lf-1",
            "LANGFUSE_SECRET_KEY": "sk-lf-1",
            "LANGFUSE_BASE_URL": receiver.url,
        }
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", program], env=environment, capture_output=True, text=True, check=False
        )
        spans = receiver.spans

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(spans["FakeModel"].attributes["langfuse.observation.usage_details"]) == USAGE
    assert spans["chat:42"].attributes["user.id"] == "u-7"


def test_the_chart_s_values_hold_no_secret() -> None:
    """Every password and key comes from one Secret, under a name that the README explains."""
    leaves = list(_leaves(yaml.safe_load((FOLDER / "values.yaml").read_text())))
    secrets, keys, plain = set(), set(), {}
    for path, value in leaves:
        if path[-2:] == ("secretKeyRef", "name") or path[-1].endswith("Secret"):
            secrets.add(value)
        elif path[-2:] == ("secretKeyRef", "key") or path[-1].endswith("Key"):
            keys.add(value)
        else:
            plain[".".join(path)] = value
    explained = {key for row in _rows() for key in re.findall(r"`([\w-]+)`", row)}

    assert secrets == {"langfuse"}
    assert keys <= explained
    # Keys of the Secret that the sub-charts read by fixed names.
    assert explained - keys == {"default", "seaweedfs_s3_config", *(key for key in explained if key.isupper())}
    assert not [path for path in plain if re.search("password|salt|accessKeyId|secretAccessKey|rootUser", path)]


def steady(spans: dict[str, Span]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key, value in span.attributes.items() if not VOLATILE.search(key)}
        for name, span in spans.items()
    }


def _read(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError):
        return value


def _total(call: LLMCall) -> int:
    assert call.usage is not None
    return call.usage.input_tokens + call.usage.output_tokens


def _body(interaction: dict[str, Any]) -> str:
    return str(interaction["response"]["body"]["string"])


def _readme() -> str:
    return (FOLDER / "README.md").read_text()


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", _readme(), re.DOTALL | re.MULTILINE)


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _rows() -> list[str]:
    """Return the first cells of the README's table of keys."""
    return re.findall(r"^\| (`.+?) \|", _readme().split("## The server")[1], re.MULTILINE)


def _leaves(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(node, list):
        for value in node:
            yield from _leaves(value, path)
    else:
        yield path, node
