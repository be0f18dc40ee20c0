"""The handlers that the benchmark compares, each with a function that completes its deferred work."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from prometheus_client import CollectorRegistry, Counter, Histogram

from eco2_callbacks import Eco2CallbackHandler, Record

__all__ = ["PEERS", "Subject", "counted", "eco2", "eco2_with_queued_sink", "floor", "nothing", "traced"]


def _done() -> None: ...


class Subject(NamedTuple):
    """Handlers, and a function that completes their deferred work."""

    handlers: list[BaseCallbackHandler]
    settle: Callable[[], object] = _done


class Floor(BaseCallbackHandler):
    """Does nothing, in the cheapest way LangChain allows."""

    run_inline = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None: ...
    def on_llm_end(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chain_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chain_end(self, *args: Any, **kwargs: Any) -> None: ...


class LabelsPerToken(Floor):
    """The most common hand-written handler: it looks up and updates a counter and a histogram for every token."""

    def __init__(self) -> None:
        registry = CollectorRegistry()
        self.tokens = Counter("tokens", "Tokens.", ["node", "status"], registry=registry)
        self.interval = Histogram("interval_seconds", "Interval.", ["provider"], registry=registry)
        self.last = time.monotonic()

    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None:
        now = time.monotonic()
        self.tokens.labels(node="answer", status="success").inc()
        self.interval.labels(provider="openai").observe(now - self.last)
        self.last = now


class _QueuedSink:
    """A sink with a close(), so it receives its records on a thread of its own."""

    def emit(self, record: Record) -> None: ...
    def close(self) -> None: ...


class _OfflineClient(Client):
    """A client that accepts runs and sends nothing, so only the tracer's own work is measured."""

    def create_run(self, *args: Any, **kwargs: Any) -> None: ...
    def update_run(self, *args: Any, **kwargs: Any) -> None: ...


def nothing() -> Subject:
    """Return no handler."""
    return Subject([])


def floor() -> Subject:
    """Return the handler that does nothing."""
    return Subject([Floor()])


def counted(registry: CollectorRegistry | None = None, **options: Any) -> Eco2CallbackHandler:
    """Return the handler with all its features on."""
    return Eco2CallbackHandler(
        registry=registry or CollectorRegistry(),
        agent_name="benchmark",
        subagents=["answer"],
        features={"waste": "rag"},
        feedback={"answer_3": {"quality": "scores.quality"}},
        budgets={"acme": {"monthly_usd": 100.0}},
        state_labels=("intent", "tenant_id"),
        **options,
    )


def eco2() -> Subject:
    """Return the handler."""
    handler = counted()
    return Subject([handler], handler.flush)


def eco2_with_queued_sink() -> Subject:
    """Return the handler with a sink behind a queue."""
    handler = counted(sinks=[_QueuedSink()])
    return Subject([handler], handler.flush)


def traced(subject: Subject | None = None) -> Subject:
    """Return LangSmith's tracer behind the handlers of a subject."""
    subject = subject or nothing()
    client = _OfflineClient(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
    return Subject([*subject.handlers, LangChainTracer(client=client)], subject.settle)


def _langfuse() -> Subject:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler
    from opentelemetry.sdk.trace import TracerProvider

    client = Langfuse(
        public_key="none",
        secret_key="none",
        base_url="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=_offline_exporter(),
    )
    return Subject([CallbackHandler(public_key="none")], client.flush)


def _openinference() -> Subject:
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_offline_exporter()))
    # Created directly, because its instrumentor would attach it to every run of the process.
    tracer = OITracer(provider.get_tracer("benchmark"), config=TraceConfig())
    return Subject([OpenInferenceTracer(tracer, False)], provider.force_flush)


def _offline_exporter() -> Any:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class OfflineExporter(SpanExporter):
        """Accepts spans and sends nothing, so only creating them is measured."""

        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    return OfflineExporter()


def _peers() -> dict[str, Callable[[], Subject]]:
    peers: dict[str, Callable[[], Subject]] = {
        "UsageMetadataCallbackHandler": lambda: Subject([UsageMetadataCallbackHandler()]),
        "labels per token": lambda: Subject([LabelsPerToken()]),
        "LangChainTracer": traced,
    }
    if find_spec("langfuse") is not None:
        peers["Langfuse"] = _langfuse
    if find_spec("openinference") is not None:
        peers["OpenInference"] = _openinference
    return peers


PEERS: Mapping[str, Callable[[], Subject]] = _peers()
