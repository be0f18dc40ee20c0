"""Runs an application with tracing off and on, and compares every output with what a stand-in served."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LLMCall, NodeRun, ToolCall
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records
from tests.support.scripted_openai import Script, ScriptedOpenAI, Served
from tests.support.tracing_modes import activate

__all__ = ["App", "Measured", "measure"]


class App:
    """What an application gets: models of the stand-in, and the config with the handler."""

    def __init__(self, script: Script, **handler_options: Any) -> None:
        self.provider = ScriptedOpenAI(script)
        self.registry = CollectorRegistry()
        self.records = Records()
        self.handler = Eco2CallbackHandler(registry=self.registry, sinks=[self.records], **handler_options)
        self.model = self.provider.model

    def config(self, **more: Any) -> Any:
        """Return a config with the handler and a tenant."""
        return {"callbacks": [self.handler], "metadata": {"tenant_id": "acme"}, **more}


class Measured:
    """What the outputs say about one run of an application; ``differences`` compares them with what was served."""

    def __init__(self, app: App, server: LangSmithServer | None) -> None:
        self.served = list(app.provider.served)
        self.records = app.records
        self.calls: list[LLMCall] = app.records.of(LLMCall)
        self.requests: list[GraphRun] = app.records.of(GraphRun)
        self.nodes = Counter((run.node, run.status) for run in app.records.of(NodeRun))
        self.tools = Counter((call.tool_name, call.status) for call in app.records.of(ToolCall))
        self.retries = Counter(call.retry for call in self.calls if call.retry)
        self.langsmith: dict[str, dict[str, Any]] = {} if server is None else server.runs()
        self._is_traced = server is not None
        self._samples: defaultdict[str, Counter[tuple[str, ...]]] = defaultdict(Counter)
        for family in app.registry.collect():
            for sample in family.samples:
                self._samples[sample.name][tuple(sorted(sample.labels.items()))] += sample.value

    def metric(self, name: str, *labels: str) -> dict[Any, float]:
        """Return the values of a metric that are not 0, summed by these labels."""
        values: Counter[Any] = Counter()
        for sample, value in self._samples[name].items():
            by_name = dict(sample)
            key = tuple(by_name.get(label, "") for label in labels)
            values[key[0] if len(labels) == 1 else key] += value
        return {key: value for key, value in values.items() if value}

    def total(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all series with these labels."""
        return sum(value for sample, value in self._samples[name].items() if labels.items() <= dict(sample).items())

    def shapes(self) -> list[tuple[Any, ...]]:
        """Return the records without what differs from run to run: ids, times, and tokens by order of arrival."""
        return sorted(
            (type(record).__name__, *(str(getattr(record, name, "")) for name in _SHAPE)) for record in self.records.all
        )

    def differences(self, *, requests: int, late_calls: int) -> Iterator[str]:
        """Yield one line for each figure that is not as served.

        Args:
            requests: How many requests the application made.
            late_calls: How many calls ended after their request; no request contains them.
        """
        answered = [served for served in self.served if served.status == 200]
        yield from _differ("the records' calls", Counter(map(_key, answered)), self._recorded())
        failed = len(self.served) - len(answered)
        yield from _differ("failed calls", failed, sum(call.status == "error" for call in self.calls))
        yield from _differ("number of calls", len(self.served), len(self.calls))
        yield from _differ("requests", requests, len(self.requests))
        yield from self._differences_of_requests(answered, late_calls)
        yield from self._differences_of_prometheus(answered)
        if self._is_traced:
            yield from self._differences_of_langsmith(answered)

    def _recorded(self) -> Counter[tuple[Any, ...]]:
        keys: Counter[tuple[Any, ...]] = Counter()
        for call in self.calls:
            if call.status == "success":
                usage, cost = call.usage, call.cost
                tokens = usage and (usage.input_tokens, usage.cache_read_tokens, usage.output_tokens)
                keys[call.model, *(tokens or (None, None, None)), cost and float(cost.total_usd)] += 1
        return keys

    def _differences_of_requests(self, answered: list[Served], late_calls: int) -> Iterator[str]:
        yield from _differ(
            "calls inside requests", len(self.served) - late_calls, sum(run.llm_calls for run in self.requests)
        )
        if not late_calls:
            usd = sum((run.cost.total_usd for run in self.requests), Decimal(0))
            yield from _differ("dollars of the requests", _usd(answered), usd)
            tokens = sum(run.usage.total_tokens for run in self.requests)
            yield from _differ("tokens of the requests", _tokens(answered), tokens)
        traces = {run.trace_id for run in self.requests}
        inside = {record.trace_id for record in self.records.all}
        yield from _differ("traces that belong to no request", set(), inside - traces)

    def _differences_of_prometheus(self, answered: list[Served]) -> Iterator[str]:
        usd = round(float(_usd(answered)), 9)
        for name in ("llm_cost_dollars_total", "graph_node_cost_dollars_total"):
            yield from _differ(name, usd, round(self.total(name), 9))
        spent: dict[Any, float] = defaultdict(float)
        for call in self.calls:
            if call.cost is not None and call.cost.total_usd:
                spent[call.agent_name, call.node] += float(call.cost.total_usd)
        counted = self.metric("graph_node_cost_dollars_total", "agent_name", "node")
        yield from _differ("dollars by agent and node", _rounded(spent), _rounded(counted))
        for kind in ("input", "output"):
            tokens = sum(getattr(served, f"{kind}_tokens") for served in answered)
            yield from _differ(f"llm_tokens_total {kind}", tokens, self.total("llm_tokens_total", token_type=kind))
        statuses = dict(Counter(call.status for call in self.calls))
        yield from _differ("llm_calls_total", statuses, self.metric("llm_calls_total", "status"))
        yield from _differ("llm_retries_total", dict(self.retries), self.metric("llm_retries_total", "reason"))
        yield from _differ("chat_requests_total", len(self.requests), self.total("chat_requests_total"))
        resumed = sum(run.resumed for run in self.requests)
        yield from _differ("chat_requests_resumed_total", resumed, self.total("chat_requests_resumed_total"))
        nodes = self.metric("graph_node_runs_total", "node", "status")
        yield from _differ("graph_node_runs_total", dict(self.nodes), nodes)
        tools = self.metric("tool_calls_total", "tool_name", "status")
        yield from _differ("tool_calls_total", dict(self.tools), tools)
        yield from _differ("errors of the handler", {}, self.metric("eco2_callbacks_errors_total", "callback"))
        for gauge in ("eco2_callbacks_open_runs", "agent_active_sessions"):
            yield from _differ(gauge, 0, self.total(gauge))

    def _differences_of_langsmith(self, answered: list[Served]) -> Iterator[str]:
        runs = self.langsmith
        yield from _differ("LangSmith runs without an end", [], [r["name"] for r in runs.values() if not r["end_time"]])
        models = {str(call.run_id): runs.get(str(call.run_id)) for call in self.calls}
        yield from _differ("calls missing on LangSmith", [], [run_id for run_id, run in models.items() if run is None])
        others = [r["name"] for r in runs.values() if r["run_type"] == "llm" and r["id"] not in models]
        yield from _differ("model runs without a record", [], others)
        usages = [usage for run in models.values() if run and (usage := _metadata(run).get("usage_metadata"))]
        keys = Counter((u["input_tokens"], u["output_tokens"], u.get("total_cost")) for u in usages)
        wanted = Counter((s.input_tokens, s.output_tokens, float(s.usd)) for s in answered)
        yield from _differ("usage on LangSmith", wanted, keys)
        for record in self.records.of(NodeRun):
            run = runs.get(str(record.run_id), {})
            usd = _metadata(run).get("cost_usd")
            yield from _differ(f"cost_usd of node {record.node}", float(record.cost.total_usd), usd)
        traces = defaultdict(set)
        for record in self.records.all:
            run = runs.get(str(getattr(record, "run_id", record.trace_id)), {})
            traces[record.trace_id].add(run.get("trace_id"))
            if isinstance(record, GraphRun):
                yield from _differ("cost_usd of a root", float(record.cost.total_usd), _metadata(run).get("cost_usd"))
        pieces = {trace: ids for trace, ids in traces.items() if len(ids) != 1}
        yield from _differ("traces in several pieces", {}, pieces)


# The fields by which records of two runs are compared.
# What is equal however fast a run is. So not ``parallel``: of two branches one may end before the other begins.
_SHAPE = (
    *("node", "tool_name", "model", "status", "error_type", "retry", "intent", "tenant_id", "resumed"),
    *("llm_calls", "tool_calls", "estimated", "unpriced_reason", "session_id"),
    *("agent_name", "path", "purpose", "user_id", "job_id", "feature", "prompt_version"),
)


def measure(
    application: Callable[[App], Any] | Callable[[App], Awaitable[Any]],
    *,
    script: Callable[[], Script] | None = None,
    requests: int = 1,
    late_calls: int = 0,
    **handler_options: Any,
) -> Measured:
    """Run an application untraced and traced; fail unless every output holds what was served, both ways alike.

    Args:
        application: Gets an ``App``; a coroutine function runs on a loop of its own.
        script: Returns the stand-in's script; called for each run, so that a script may keep a state.
        requests: How many requests the application makes.
        late_calls: How many model calls end after their request.
        handler_options: Arguments of the handler.

    Returns:
        What the traced run left.

    Raises:
        AssertionError: With one line for each figure that differs.
    """
    untraced, traced = (
        _run(application, script, is_traced=is_traced, **handler_options) for is_traced in (False, True)
    )
    lines = []
    for name, measured in (("tracing off", untraced), ("tracing on", traced)):
        lines += [f"{name}: {line}" for line in measured.differences(requests=requests, late_calls=late_calls)]
    lines += [f"records by tracing: {line}" for line in _list_difference(untraced.shapes(), traced.shapes())]
    if lines:
        raise AssertionError("\n".join(["The outputs do not agree with what was served.", *lines]))
    return traced


def _run(
    application: Callable[[App], Any],
    script: Callable[[], Script] | None,
    *,
    is_traced: bool,
    **handler_options: Any,
) -> Measured:
    app = App((lambda request: None) if script is None else script(), **handler_options)
    with app.handler, _tracing(is_traced) as server:
        if inspect.iscoroutinefunction(application):
            asyncio.run(application(app))
        else:
            application(app)
        app.handler.flush()
        if server is not None:
            server.flush_client()
        return Measured(app, None if server is None else server.server)


class _Tracing:
    """The server of a traced run, and the client that sends to it."""

    def __init__(self, server: LangSmithServer, client: Any) -> None:
        self.server, self._client = server, client

    def flush_client(self) -> None:
        self._client.flush()


@contextmanager
def _tracing(is_traced: bool) -> Iterator[_Tracing | None]:
    if not is_traced:
        yield None
        return
    with LangSmithServer(ingest="zstd") as server, activate("environment", server) as active:
        yield _Tracing(server, active.client)


def _key(served: Served) -> tuple[Any, ...]:
    return (*(served.model, served.input_tokens, served.cached_tokens, served.output_tokens), float(served.usd))


def _usd(answered: list[Served]) -> Decimal:
    return sum((served.usd for served in answered), Decimal(0))


def _tokens(answered: list[Served]) -> int:
    return sum(served.input_tokens + served.output_tokens for served in answered)


def _rounded(spent: Mapping[Any, float]) -> dict[Any, float]:
    return {key: round(usd, 9) for key, usd in spent.items()}


def _metadata(run: Mapping[str, Any]) -> Mapping[str, Any]:
    return (run.get("extra") or {}).get("metadata") or {}


def _differ(what: str, wanted: Any, came: Any) -> Iterator[str]:
    if wanted == came:
        return
    if isinstance(wanted, Counter) and isinstance(came, Counter):
        yield f"{what}: missing {dict(wanted - came)}, too many {dict(came - wanted)}"
    else:
        yield f"{what}: wanted {wanted!r}, came {came!r}"


def _list_difference(off: list[tuple[Any, ...]], on: list[tuple[Any, ...]]) -> Iterator[str]:
    only_off, only_on = Counter(off) - Counter(on), Counter(on) - Counter(off)
    yield from (f"only with tracing off: {shape}" for shape in only_off.elements())
    yield from (f"only with tracing on: {shape}" for shape in only_on.elements())
