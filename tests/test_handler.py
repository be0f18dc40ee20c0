"""The handler itself: several handlers at once, failures inside it, and records from outside LangChain."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Cost, Eco2CallbackHandler, LLMCall, TokenUsage
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, sample


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
async def test_a_handler_attached_twice_counts_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, mode: str
) -> None:
    """The same handler in the graph's config and on the model measures each run once."""
    model = FakeModel(callbacks=[handler])

    async def node(state: State) -> State:
        if mode == "ainvoke":
            await model.ainvoke("hello")
        else:
            _ = [chunk async for chunk in model.astream("hello")]
        return {}

    graph = graph_of(node).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [handler, handler]})

    assert records.call.streamed_tokens == (3 if mode == "astream" else 0)
    assert records.request.llm_calls == 1
    assert sample(registry, "chat_intent_total", intent="unclassified") == 1


async def test_the_start_of_an_open_request_is_its_record_s(handler: Eco2CallbackHandler, records: Records) -> None:
    """Inside the request it is known under the trace id, and gone when the request has ended."""
    trace_id, found = uuid.uuid4(), []

    async def node(state: State) -> State:
        found.append(handler.request_started_at(trace_id))
        return {}

    await graph_of(node).compile().ainvoke({"answers": []}, {"callbacks": [handler], "run_id": trace_id})

    assert (records.request.trace_id, [records.request.started_at]) == (trace_id, found)
    assert handler.request_started_at(trace_id) is None


def test_tokens_without_chunks_of_a_handler_attached_twice_count_once(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """A model that passes no chunks tells each attachment of every token; the estimate counts each token once."""
    texts = {}
    for attachments in (1, 2):
        run_id = uuid.uuid4()
        for _ in range(attachments):
            handler.on_llm_start({}, ["hello"], run_id=run_id)
        for token in ("well ", "well ", "sorted"):
            for _ in range(attachments):
                handler.on_llm_new_token(token, run_id=run_id)
        for _ in range(attachments):
            handler.on_llm_error(KeyboardInterrupt(), run_id=run_id)
        texts[attachments] = records.calls[-1].usage, records.calls[-1].streamed_tokens

    assert texts[1] == texts[2]
    assert texts[1][1] == 3


async def test_two_handlers_with_registries_of_their_own_stay_apart() -> None:
    """Each handler counts only the calls it is attached to."""
    first, second = CollectorRegistry(), CollectorRegistry()
    one, two = Eco2CallbackHandler(registry=first), Eco2CallbackHandler(registry=second)

    await FakeModel().ainvoke("hello", config={"callbacks": [one]})
    await FakeModel().ainvoke("hello", config={"callbacks": [one, two]})

    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "", "token_type": "input"}
    assert sample(first, "llm_tokens_total", **labels) == 2000
    assert sample(second, "llm_tokens_total", **labels) == 1000


async def test_handlers_on_one_registry_share_its_instruments(registry: CollectorRegistry) -> None:
    """A second handler on the same registry adds to the same series."""
    one, two = Eco2CallbackHandler(registry=registry), Eco2CallbackHandler(registry=registry)

    await FakeModel().ainvoke("hello", config={"callbacks": [one]})
    await FakeModel().ainvoke("hello", config={"callbacks": [two]})

    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "", "token_type": "input"}
    assert sample(registry, "llm_tokens_total", **labels) == 2000


class Raising:
    """A sink that raises."""

    closed = False

    def emit(self, record: Any) -> None:
        raise RuntimeError("disk full")

    def close(self) -> None:
        self.closed = True
        raise RuntimeError("still full")


async def test_a_raising_sink_is_logged_and_counted_and_affects_nothing_else(
    registry: CollectorRegistry, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """A raising sink affects neither the application nor the other sinks."""
    raising = Raising()
    handler = Eco2CallbackHandler(registry=registry, sinks=[raising, records])

    reply = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    handler.close()

    assert reply.content == "sort it well"
    assert records.call.cost is not None
    assert raising.closed
    assert sample(registry, "eco2_callbacks_errors_total", callback="emit") == 1
    assert sample(registry, "eco2_callbacks_errors_total", callback="close") == 1
    assert f"Sink Raising raised in emit (run {records.call.run_id}); the application is not affected." in caplog.text


async def test_an_exception_in_a_callback_never_reaches_the_application(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception inside a callback is counted, and the application gets its answer."""

    def broken() -> float:
        raise OSError("no clock")

    handler = Eco2CallbackHandler(registry=registry, clock=broken)

    reply = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

    assert reply.content == "sort it well"
    assert sample(registry, "eco2_callbacks_errors_total", callback="on_chat_model_start") == 1
    assert "on_chat_model_start failed for run" in caplog.text


def test_emit_takes_a_record_made_elsewhere(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """Every sink gets a record that code outside LangChain passes to emit()."""
    record = LLMCall(
        run_id=uuid.uuid4(),
        trace_id=uuid.uuid4(),
        node="batch",
        provider="openai",
        model="gpt-5.2",
        started_at=datetime.now(UTC),
        duration_seconds=1.0,
        usage=TokenUsage(input_tokens=5),
        cost=Cost(input_usd=Decimal("0.25"), parts={"input": Decimal("0.25")}),
    )

    handler.emit(record)

    assert sample(registry, "llm_cost_dollars_total", provider="openai", model="gpt-5.2", tenant_id="") == 0.25


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"usage": TokenUsage(input_tokens=-1)}, "the counts ['input_tokens'] are below 0"),
        ({"cost": Cost(input_usd=Decimal(-1))}, "the cost is below 0"),
        (
            {"cost": Cost(input_usd=Decimal(1), parts={"input": Decimal(2)})},
            "the parts of the cost sum to 2, not to its total 1",
        ),
        ({"status": "interrupted"}, "status is 'interrupted', wanted 'success', 'error' or 'cancelled'"),
        (
            {"otel_trace_id": "c0ffee", "otel_span_id": "beef000000000002"},
            "the OpenTelemetry ids are 'c0ffee' and 'beef000000000002', wanted 32 and 16 hexadecimal digits",
        ),
        (
            {"otel_trace_id": "c0ffee" + 26 * "0"},
            f"the OpenTelemetry ids are 'c0ffee{26 * '0'}' and None, wanted 32 and 16 hexadecimal digits",
        ),
    ],
    ids=["negative_count", "negative_cost", "parts_do_not_sum", "unknown_status", "short_trace_id", "no_span_id"],
)
def test_an_invalid_record_is_refused_and_logged(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    problem: str,
) -> None:
    """An invalid record reaches no counter and no sink, and the log names what is wrong."""
    values = {
        "run_id": uuid.uuid4(),
        "trace_id": uuid.uuid4(),
        "started_at": datetime.now(UTC),
        "duration_seconds": 1.0,
    }

    handler.emit(LLMCall(**{**values, **changes}))

    assert records.all == []
    assert caplog.messages == [f"A record was passed to emit() that cannot be counted: {problem}."]
    assert sample(registry, "eco2_callbacks_errors_total", callback="emit") == 1


async def test_the_applications_messages_stay_unchanged(handler: Eco2CallbackHandler) -> None:
    """Measuring changes nothing in what the model returns."""
    measured = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    plain = await FakeModel().ainvoke("hello")

    measured.id = plain.id
    assert measured == plain


def test_the_error_counter_starts_at_zero_for_every_callback(registry: CollectorRegistry) -> None:
    """The series of failures inside the handler exist before the first failure."""
    Eco2CallbackHandler(registry=registry)

    own = [kind for kind in Eco2CallbackHandler.__mro__ if kind.__module__.startswith("eco2_callbacks")]
    defined = {name for kind in own for name in vars(kind) if name.startswith("on_")}
    defined |= {"call", "tool", "emit", "overflow", "langsmith", "feedback", "stream_metrics", "attribution"}
    defined |= {"prices", "close"}
    initialised = {
        line.labels["callback"]
        for family in registry.collect()
        for line in family.samples
        if line.name == "eco2_callbacks_errors_total"
    }
    assert initialised == defined


async def test_a_lone_surrogate_does_not_break_the_scrape(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """A lone surrogate in an intent is replaced, and Prometheus can still scrape."""

    def surrogate(state: State) -> State:
        return {"intent": "waste\ud83d"}

    await graph_of(surrogate, answer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert 'intent="waste?"' in generate_latest(registry).decode()


def test_a_run_with_invalid_tags_and_name_is_measured(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A run whose tags or name are no strings is measured like any other."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()), tags=[1], name=5)  # type: ignore[list-item]
    handler.on_chain_end({}, run_id=root)

    assert records.request.status == "success"
    assert sample(registry, "agent_active_sessions", agent_name="eco2", tenant_id="") == 0


def test_a_copied_model_keeps_its_handler(handler: Eco2CallbackHandler, records: Records) -> None:
    """A deep copy of a model or config holds the same handler."""
    model = FakeModel(callbacks=[handler]).model_copy(deep=True)

    model.invoke("hello")

    assert records.call.cost is not None


def test_retriever_and_score_series_start_at_zero(registry: CollectorRegistry) -> None:
    """A retriever's series start with its first run, a configured score's with the handler."""
    handler = Eco2CallbackHandler(registry=registry, feedback={"grade": {"rag": "score"}})

    handler.on_retriever_start({}, "query", run_id=uuid.uuid4(), name="Rules", metadata={"langgraph_node": "rag"})

    assert sample(registry, "retrieval_duration_seconds_count", retriever="Rules", node="rag") == 0
    assert sample(registry, "chat_feedback_score_count", node="grade", key="rag") == 0
