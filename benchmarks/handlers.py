"""The handlers that overhead.py compares, each with what it puts off until later, so that this is measured too."""

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

__all__ = ["ABSENT", "HANDLERS", "Attached"]


def _nothing() -> None: ...


class Attached(NamedTuple):
    """Handlers, and what does all that they put off."""

    handlers: list[BaseCallbackHandler]
    settle: Callable[[], object] = _nothing


class Floor(BaseCallbackHandler):
    """Does nothing, the cheapest way LangChain allows."""

    run_inline = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_llm_new_token(self, token: Any, **kwargs: Any) -> None: ...
    def on_llm_end(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chain_start(self, *args: Any, **kwargs: Any) -> None: ...
    def on_chain_end(self, *args: Any, **kwargs: Any) -> None: ...


class LabelsPerToken(Floor):
    """What is pasted most often: a counter and a histogram looked up and moved for every token."""

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


class _Kept:
    """A sink in memory."""

    def __init__(self) -> None:
        self.taken = 0

    def emit(self, record: Record) -> None:
        self.taken += 1


class _Queued(_Kept):
    """A sink that gets its records on a thread of its own, since it can be closed."""

    def close(self) -> None: ...


def _eco2_callbacks() -> Attached:
    registry = CollectorRegistry()
    return Attached([Eco2CallbackHandler(registry=registry)], lambda: _count(registry))


def _eco2_callbacks_with_sinks() -> Attached:
    registry, kept, queued = CollectorRegistry(), _Kept(), _Queued()

    def settle() -> None:
        _count(registry)
        while queued.taken < kept.taken:
            time.sleep(0.01)

    return Attached([Eco2CallbackHandler(registry=registry, sinks=[kept, queued])], settle)


def _count(registry: CollectorRegistry) -> None:
    # Who reads one metric finds every record counted.
    list(registry.restricted_registry(["eco2_callbacks_open_runs"]).collect())


class _Unsent(Client):
    """A client that takes runs and sends nothing: the tracer's own work remains."""

    def create_run(self, *args: Any, **kwargs: Any) -> None: ...
    def update_run(self, *args: Any, **kwargs: Any) -> None: ...


def _langsmith() -> Attached:
    client = _Unsent(api_url="http://127.0.0.1:9", api_key="none", auto_batch_tracing=False)
    return Attached([LangChainTracer(client=client)])


class _Unexported(SpanExporter):
    """Takes spans and sends nothing: making them remains."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _langfuse() -> Attached:
    from langfuse import Langfuse
    from langfuse.langchain import CallbackHandler

    client = Langfuse(
        public_key="none",
        secret_key="none",
        base_url="http://127.0.0.1:9",
        tracer_provider=TracerProvider(),
        span_exporter=_Unexported(),
    )
    return Attached([CallbackHandler(public_key="none")], client.flush)


def _openinference() -> Attached:
    from openinference.instrumentation import OITracer, TraceConfig
    from openinference.instrumentation.langchain._tracer import OpenInferenceTracer

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(_Unexported()))
    # As its instrumentor makes it, which would attach it to every run of the process.
    tracer = OITracer(provider.get_tracer("benchmark"), config=TraceConfig())
    return Attached([OpenInferenceTracer(tracer, False)], provider.force_flush)


HANDLERS: dict[str, Callable[[], Attached]] = {
    "none": lambda: Attached([]),
    "floor": lambda: Attached([Floor()]),
    "eco2_callbacks": _eco2_callbacks,
    "eco2_callbacks, two more sinks": _eco2_callbacks_with_sinks,
    "UsageMetadataCallbackHandler": lambda: Attached([UsageMetadataCallbackHandler()]),
    "labels per token": lambda: Attached([LabelsPerToken()]),
    "LangChainTracer": _langsmith,
}
ABSENT: list[str] = []
for _name, _module, _build in (
    ("Langfuse", "langfuse", _langfuse),
    ("OpenInference", "openinference", _openinference),
):
    if find_spec(_module) is None:
        ABSENT.append(_name)
    else:
        HANDLERS[_name] = _build
