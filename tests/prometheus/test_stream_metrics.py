"""Streams in Prometheus: how many are open, how fast they are, and that none stays open."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import uuid
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessageChunk
from langchain_core.outputs import ChatGenerationChunk
from prometheus_client import CollectorRegistry, Histogram

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.prometheus.sums import observe_all
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed

V3 = pytest.mark.needs_core("1.4")  # v3 streams
BETA = pytest.mark.filterwarnings("ignore:The method .* is in beta")


def tokens(registry: CollectorRegistry) -> float:
    return exposed(registry, "chat_stream_tokens_total")


def active(registry: CollectorRegistry) -> float:
    return exposed(registry, "chat_stream_active")


def requests(registry: CollectorRegistry) -> dict[str, float]:
    statuses = ("success", "error", "cancelled", "recovered")
    return {status: registry.get_sample_value("chat_stream_requests_total", {"status": status}) for status in statuses}  # type: ignore[misc]


async def test_a_stream_is_counted_while_it_runs(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """A scrape in the middle of a stream sees every chunk so far and the stream as open."""
    stream = FakeModel().astream("hello", config={"callbacks": [handler]})

    seen = [
        (tokens(registry), active(registry), sum(requests(registry).values()))
        async for chunk in stream
        if chunk.content
    ]

    assert seen == [(1, 1, 0), (2, 1, 0), (3, 1, 0)]
    assert (tokens(registry), active(registry)) == (3, 0)
    assert requests(registry) == {"success": 1, "error": 0, "cancelled": 0, "recovered": 0}
    assert exposed(registry, "chat_stream_token_interval_seconds_count") == 2
    assert exposed(registry, "chat_stream_duration_seconds_count") == 1
    assert exposed(registry, "chat_stream_token_count_sum") == 3
    assert exposed(registry, "llm_time_to_first_token_seconds_count") == 1


async def test_intervals_are_those_of_the_clock(registry: CollectorRegistry) -> None:
    """Three tokens are two intervals, each in its bucket, with or without scrapes in between."""
    instants = iter([0.0, 1.0, 1.04, 1.54, 2.0])
    handler = Eco2CallbackHandler(registry=registry, clock=lambda: next(instants))

    async for _ in FakeModel().astream("hello", config={"callbacks": [handler]}):
        tokens(registry)

    name, openai = "chat_stream_token_interval_seconds", {"provider": "openai"}
    below = {
        le: registry.get_sample_value(f"{name}_bucket", {"le": le, **openai}) for le in ("0.025", "0.05", "0.5", "1.0")
    }
    assert below == {"0.025": 0, "0.05": 1, "0.5": 2, "1.0": 2}
    assert registry.get_sample_value(f"{name}_sum", openai) == pytest.approx(0.54)


@pytest.mark.parametrize(
    ("content", "counted"),
    [
        ([{"type": "text", "text": "", "id": "msg_1", "index": 0}], 0),
        ([{"type": "reasoning", "summary": [], "id": "rs_1", "index": 0}], 0),
        ([{"type": "text", "text": "sort", "index": 0}], 1),
        ([{"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me", "index": 0}], "index": 0}], 1),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}], 1),
        ([""], 0),
        (["sort"], 1),
        ([], 0),
    ],
    ids=["end_of_text", "reasoning_begins", "text", "reasoning", "image", "empty_word", "word", "nothing"],
)
@pytest.mark.parametrize("bare", [False, True], ids=["chunk", "token_alone"])
def test_an_empty_block_is_no_token(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, bare: bool, content: list[Any], counted: int
) -> None:
    """Responses starts and ends a block without content, and passes its blocks as the token."""
    run_id = uuid.uuid4()
    handler.on_chat_model_start({}, [[]], run_id=run_id)
    chunk = None if bare else ChatGenerationChunk(message=AIMessageChunk(content=content))

    handler.on_llm_new_token(content, chunk=chunk, run_id=run_id)

    assert (tokens(registry), active(registry)) == (counted, 1)


async def test_a_call_that_does_not_stream_is_no_stream(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """A call without a stream counts in no stream metric."""
    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

    assert (tokens(registry), active(registry), sum(requests(registry).values())) == (0, 0, 0)


@V3
@BETA
async def test_a_v3_stream_is_one_stream(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """A model that fires chunks and events counts each token once, in one stream."""
    model: Any = FakeModel()
    seen = [active(registry) for _ in model.stream_events("hello", config={"callbacks": [handler]}, version="v3")]

    assert set(seen) == {0, 1}  # LangChain passes a last event on after the end
    assert (tokens(registry), active(registry), requests(registry)["success"]) == (3, 0, 1)


@V3
def test_a_stream_of_events_is_estimated_from_text_and_tool_calls(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """For a model that fires events only, text and tool calls are estimated, and no reasoning."""
    events: list[dict[str, Any]] = [
        {"event": "message-start"},
        {"event": "content-block-start", "content": {"type": "reasoning", "reasoning": ""}},
        {"event": "content-block-delta", "delta": {"type": "reasoning-delta", "reasoning": "let me think"}},
        {"event": "content-block-start", "content": {"type": "tool_call_chunk", "name": "find_bin", "id": "1"}},
        {"event": "content-block-delta", "delta": {"type": "tool-call-delta", "args": '{"place": "Gangnam"}'}},
    ]
    run_id = uuid.uuid4()
    handler.on_chat_model_start({}, [[]], run_id=run_id, metadata={"ls_provider": "openai", "ls_model_name": "gpt-5.2"})

    for event in events:
        handler.on_stream_event(event, run_id=run_id)
    handler.on_llm_error(GeneratorExit(), run_id=run_id)

    assert records.call.streamed_tokens == 2
    assert records.call.usage is not None
    assert records.call.usage.output_tokens == 9 + 4  # find_bin{"place": "Gangnam"}, and its delimiters


async def test_five_hundred_streams_on_one_loop(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """With five hundred streams the number of open ones is right at every moment, and the sums are exact."""
    opened, done = asyncio.Barrier(501), asyncio.Barrier(501)

    async def consume() -> None:
        stream = FakeModel().astream("hello", config={"callbacks": [handler]})
        await anext(stream)
        await opened.wait()
        await done.wait()
        async for _ in stream:
            pass

    async with asyncio.TaskGroup() as group:
        for _ in range(500):
            group.create_task(consume())
        await opened.wait()
        assert active(registry) == 500
        await done.wait()

    assert (tokens(registry), active(registry), requests(registry)["success"]) == (1500, 0, 500)
    assert exposed(registry, "chat_stream_token_interval_seconds_count") == 1000
    assert exposed(registry, "eco2_callbacks_open_runs") == 0
    assert len(records.calls) == 500


def test_streams_on_eight_threads_are_counted_exactly(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """Streams on eight threads with concurrent scrapes lose and double nothing."""
    finished = threading.Event()
    counts: list[float] = []

    def consume() -> None:
        for _ in range(50):
            for _chunk in FakeModel().stream("hello", config={"callbacks": [handler]}):
                pass

    def read() -> None:
        while not finished.is_set():
            counts.append(tokens(registry))

    reader = threading.Thread(target=read)
    workers = [threading.Thread(target=consume) for _ in range(8)]
    for thread in (reader, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    finished.set()
    reader.join()

    assert counts == sorted(counts)
    assert (tokens(registry), active(registry), requests(registry)["success"]) == (1200, 0, 400)
    assert exposed(registry, "chat_stream_token_interval_seconds_count") == 800


def test_handlers_on_one_registry_add_up(registry: CollectorRegistry) -> None:
    """The number of open streams is the sum over all handlers."""
    first, second = (Eco2CallbackHandler(registry=registry) for _ in range(2))
    streams = [FakeModel().stream("hello", config={"callbacks": [handler]}) for handler in (first, second, second)]

    for stream in streams:
        next(stream)
    opened = active(registry)
    for stream in streams:
        list(stream)

    assert (opened, active(registry), tokens(registry)) == (3, 0, 9)


def test_closing_the_handler_closes_its_streams(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """A stream that is never consumed to its end is closed with the handler."""
    stream = FakeModel().stream("hello", config={"callbacks": [handler]})
    next(stream)

    handler.close()
    list(stream)

    assert (tokens(registry), active(registry)) == (1, 0)
    assert requests(registry) == {"success": 0, "error": 0, "cancelled": 1, "recovered": 0}


def test_another_process_sees_a_stream_while_it_runs(tmp_path: Path) -> None:
    """In multiprocess mode every chunk is in the files at once, so other processes read it."""
    program = """
import sys
sys.path.insert(0, sys.argv[1])
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel

registry = CollectorRegistry()
MultiProcessCollector(registry)
handler = Eco2CallbackHandler(registry=REGISTRY)
sums = []
for chunk in FakeModel().stream("hello", config={"callbacks": [handler]}):
    totals = {}
    for family in registry.collect():
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0) + sample.value
    sums.append((totals["chat_stream_tokens_total"], totals["chat_stream_active"],
                 totals["chat_stream_token_interval_seconds_count"]))
print(sums[:3], end="")
"""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    completed = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parents[2])],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )

    assert completed.stdout == "[(1.0, 1.0, 0.0), (2.0, 1.0, 1.0), (3.0, 1.0, 2.0)]"


def test_a_publisher_reports_latency_and_recoveries(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """The publisher reports how long a token took to its readers, and which readers recovered."""
    handler.stream_metrics.published("answer", 0.002)
    handler.stream_metrics.published("answer", 0.04)
    handler.stream_metrics.recovered("catch_up", "success")
    handler.stream_metrics.recovered("snapshot", "error")

    latency = "chat_stream_token_latency_seconds"
    assert registry.get_sample_value(f"{latency}_bucket", {"node": "answer", "le": "0.005"}) == 1
    assert registry.get_sample_value(f"{latency}_count", {"node": "answer"}) == 2
    assert requests(registry)["recovered"] == 1
    recovered = {
        (kind, status): registry.get_sample_value("chat_stream_recovery_total", {"type": kind, "status": status})
        for kind in ("catch_up", "snapshot")
        for status in ("success", "error")
    }
    assert recovered == {
        ("catch_up", "success"): 1,
        ("catch_up", "error"): 0,
        ("snapshot", "success"): 0,
        ("snapshot", "error"): 1,
    }


@pytest.mark.parametrize(
    ("report", "warning"),
    [
        (lambda metrics: metrics.published("answer", -1), "published(node='answer', seconds=-1) came"),
        (lambda metrics: metrics.published("answer", float("nan")), "published(node='answer', seconds=nan) came"),
        (lambda metrics: metrics.published(None, 1), "published(node=None, seconds=1) came"),
        (lambda metrics: metrics.recovered("rewind", "success"), "recovered('rewind', 'success') came"),
        (lambda metrics: metrics.recovered("snapshot", "cancelled"), "recovered('snapshot', 'cancelled') came"),
    ],
    ids=["negative", "nan", "no_node", "unknown_type", "unknown_status"],
)
def test_an_invalid_report_of_a_publisher_is_logged_and_not_raised(
    handler: Eco2CallbackHandler,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    report: Any,
    warning: str,
) -> None:
    """A publisher's invalid report neither stops its stream nor creates a series."""
    report(handler.stream_metrics)

    assert warning in caplog.text
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "stream_metrics"}) == 1
    assert exposed(registry, "chat_stream_token_latency_seconds_count") == 0
    assert exposed(registry, "chat_stream_recovery_total") == 0


def samples_of(histogram: Histogram) -> list[tuple[str, dict[str, str], float]]:
    return [
        (line.name, line.labels, line.value)
        for family in histogram.collect()
        for line in family.samples
        if not line.name.endswith("_created")
    ]


@pytest.mark.parametrize(
    "hidden", [(), ("_buckets",), ("_upper_bounds",), ("_sum",)], ids=["whole", "no_buckets", "no_bounds", "no_sum"]
)
@given(amounts=st.lists(st.one_of(st.sampled_from([0.0, 0.1, 0.5, 1.0, 7.0]), st.floats(0, 100)), max_size=30))
def test_many_observations_at_once_are_the_same(hidden: tuple[str, ...], amounts: list[float]) -> None:
    """observe_all equals one observe() per value, also where prometheus_client lacks an attribute it uses."""

    class Shut(Histogram):
        def __getattribute__(self, name: str) -> Any:
            if name in hidden and not open_inside:
                raise AttributeError(name)
            return super().__getattribute__(name)

        def observe(self, amount: float, exemplar: Any = None) -> None:
            nonlocal open_inside
            open_inside = True
            super().observe(amount, exemplar)
            open_inside = False

    open_inside = True
    one, many = (kind("t", "T.", buckets=(0.1, 0.5, 1), registry=None) for kind in (Histogram, Shut))
    for amount in amounts:
        one.observe(amount)

    open_inside = False
    observe_all(many, amounts)

    open_inside = True
    assert samples_of(many) == [(name, labels, pytest.approx(value)) for name, labels, value in samples_of(one)]


@pytest.mark.parametrize("multiprocess", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_garbage_collector_may_end_streams_while_counting(tmp_path: Path, multiprocess: bool) -> None:
    """Streams that the garbage collector ends do not deadlock on prometheus_client's locks."""
    program = """
import gc, sys
sys.path.insert(0, sys.argv[1])
from prometheus_client import CollectorRegistry
from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel

registry = CollectorRegistry()
handler = Eco2CallbackHandler(registry=registry, max_label_values=10_000)
gc.set_threshold(20)
for number in range(150):
    stream = FakeModel().stream("hello", config={"callbacks": [handler], "metadata": {"intent": f"intent-{number}"}})
    next(stream)
    around = [stream]
    around.append(around)
del stream, around
while (active := registry.get_sample_value("chat_stream_active")) > 0:
    gc.collect()  # does nothing while the worker's thread is inside a collection
print(active)
"""
    environment = {**os.environ, **({"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)} if multiprocess else {})}
    command = [sys.executable, "-c", program, str(Path(__file__).parents[2])]

    completed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=300)

    assert completed.stdout == "0.0\n"


def test_a_stream_with_two_callbacks_is_one(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """A stream whose every chunk is reported twice is counted once."""
    stream = FakeModel().stream("hello", config={"callbacks": [handler, handler]})
    next(stream)
    opened = active(registry)
    list(stream)

    assert (opened, active(registry), tokens(registry), requests(registry)["success"]) == (1, 0, 3, 1)
