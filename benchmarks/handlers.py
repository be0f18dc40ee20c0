"""The handlers that overhead.py compares, with their deferred work, so that it is measured too."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from prometheus_client import CollectorRegistry, Counter, Histogram

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.records import Record

__all__ = ["HANDLERS", "NOT_INSTALLED", "Subject"]


def _nothing() -> None: ...


class Subject(NamedTuple):
    """Handlers, and a function that completes their deferred work."""

    handlers: list[BaseCallbackHandler]
    settle: Callable[[], object] = _nothing


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


class _CountingSink:
    """A sink that only counts its records."""

    def __init__(self) -> None:
        self.received = 0

    def emit(self, record: Record) -> None:
        self.received += 1


class _QueuedSink(_CountingSink):
    """A sink with a close(), so it receives its records on a thread of its own."""

    def close(self) -> None: ...


def _eco2_callbacks() -> Subject:
    registry = CollectorRegistry()
    return Subject([Eco2CallbackHandler(registry=registry)], lambda: _count(registry))


def _eco2_callbacks_with_sinks() -> Subject:
    registry, direct, queued = CollectorRegistry(), _CountingSink(), _QueuedSink()

    def settle() -> None:
        _count(registry)
        while queued.received < direct.received:
            time.sleep(0.01)

    return Subject([Eco2CallbackHandler(registry=registry, sinks=[direct, queued])], settle)


def _count(registry: CollectorRegistry) -> None:
    # Reading one metric makes the handler count every record.
    list(registry.restricted_registry(["eco2_callbacks_open_runs"]).collect())


class _OfflineClient(Client):
    """A client that accepts runs and sends nothing, so only the tracer's own work is measured."""

    def create_run(self, *args: Any, **kwargs: Any) -> None: ...
    def update_run(self, *args: Any, **kwargs: Any) -> None: ...


def _langsmith() -> Subject:
    client = _OfflineClient(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
    return Subject([LangChainTracer(client=client)])


class _OfflineExporter(SpanExporter):
    """An exporter that accepts spans and sends nothing, so only creating them is measured."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _langfuse() -> Subject:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    client = Langfuse(
        public_key="none",
        secret_key="none",
        base_url="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=_OfflineExporter(),
    )
    return Subject([CallbackHandler(public_key="none")], client.flush)


def _openinference() -> Subject:
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_OfflineExporter()))
    # Created directly, because its instrumentor would attach it to every run of the process.
    tracer = OITracer(provider.get_tracer("benchmark"), config=TraceConfig())
    return Subject([OpenInferenceTracer(tracer, False)], provider.force_flush)


HANDLERS: dict[str, Callable[[], Subject]] = {
    "none": lambda: Subject([]),
    "floor": lambda: Subject([Floor()]),
    "eco2_callbacks": _eco2_callbacks,
    "eco2_callbacks, two more sinks": _eco2_callbacks_with_sinks,
    "UsageMetadataCallbackHandler": lambda: Subject([UsageMetadataCallbackHandler()]),
    "labels per token": lambda: Subject([LabelsPerToken()]),
    "LangChainTracer": _langsmith,
}
NOT_INSTALLED: list[str] = []
for _name, _module, _build in (
    ("Langfuse", "langfuse", _langfuse),
    ("OpenInference", "openinference", _openinference),
):
    if find_spec(_module) is None:
        NOT_INSTALLED.append(_name)
    else:
        HANDLERS[_name] = _build
