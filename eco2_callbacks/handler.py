"""Eco2CallbackHandler: LangChain events in, one record out to every sink."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks.features import Features
from eco2_callbacks.feedback import Feedback
from eco2_callbacks.langsmith import LangSmithRuns
from eco2_callbacks.metering import Meter
from eco2_callbacks.otlp import withhold_langsmith_key
from eco2_callbacks.outcomes import SUCCESS, outcome_of
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.prometheus import PrometheusSink
from eco2_callbacks.publishing import StreamMetrics
from eco2_callbacks.recorder import Recorder
from eco2_callbacks.records import Record, Sink, fault_of
from eco2_callbacks.sinks import SinkQueue, close_all
from eco2_callbacks.tracker import Tracker

__all__ = ["Budget", "Eco2CallbackHandler"]

_logger = logging.getLogger(__name__)
_utc_now = partial(datetime.now, UTC)
_NO_CONTENT = frozenset({"type", "id", "index"})
_CALLBACKS = (
    *("on_chain_start", "on_chain_end", "on_chain_error"),
    *("on_chat_model_start", "on_llm_start", "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error"),
    *("on_tool_start", "on_tool_end", "on_tool_error"),
    *("on_retriever_start", "on_retriever_end", "on_retriever_error"),
    *("emit", "overflow", "feedback", "stream_metrics", "close"),
)


class Budget(TypedDict, total=False):
    """What a tenant may spend, in US dollars."""

    monthly_usd: float
    daily_usd: float


class Eco2CallbackHandler(BaseCallbackHandler):
    """Measures every model call, node, tool, retriever and request below the config it is attached to.

    Args:
        registry: Where the Prometheus metrics live; handlers on one registry share them.
        prices: A price book, or the path of a file of own rates; None are public rates.
        sinks: Further takers of the records, beside Prometheus, each on a thread of its own behind a bounded queue.
        agent_name: Label of this application's requests and tools.
        subagents: Names of nodes that are also counted as subagents.
        features: What serves each intent (or node), for the tags of a trace: a ``Feature``, or its name.
        feedback: Quality scores that nodes return: node -> score's key -> dotted path in the node's output.
        budgets: What tenants may spend, by tenant.
        state_labels: Keys of the graph's state that are followed once a node has put them there; ``intent`` and
            ``tenant_id`` become labels.
        max_label_values: How many values a label takes before new ones become ``other``.
        max_tenants: The same for tenants; None is ``max_label_values``.
        clock: Monotonic seconds, for durations.
        now: Aware wall time, for time stamps and the prices of the day.

    Attributes:
        stream_metrics: Takes what a publisher of streams tells: tokens handed on, readers that came back.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    # LangChain's async managers call an inline handler at once, in order, and on the event's own thread.
    run_inline = True

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        prices: PriceBook | str | Path | None = None,
        sinks: Sequence[Sink] = (),
        agent_name: str = "",
        subagents: Sequence[str] = (),
        features: Features | None = None,
        feedback: Feedback | None = None,
        budgets: Mapping[str, Budget] | None = None,
        state_labels: Sequence[str] = ("intent",),
        max_label_values: int = 100,
        max_tenants: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        super().__init__()
        try:
            withhold_langsmith_key()
        except Exception:
            _logger.exception("The OTLP settings could not be read; LangSmith's key may leave for an OTLP endpoint.")
        book = (
            prices if isinstance(prices, PriceBook) else PriceBook() if prices is None else PriceBook.from_toml(prices)
        )
        prometheus = PrometheusSink(
            registry,
            agent_name=agent_name,
            subagents=subagents,
            scores=[(node, key) for node, keys in (feedback or {}).items() for key in keys],
            max_label_values=max_label_values,
            max_tenants=max_tenants,
        )
        prometheus.show_info(version("eco2-callbacks"), book.version)
        for tenant_id, budget in (budgets or {}).items():
            prometheus.show_budget(tenant_id, monthly_usd=budget.get("monthly_usd"), daily_usd=budget.get("daily_usd"))
        for callback in _CALLBACKS:
            prometheus.failed(callback, times=0)
        self._prometheus = prometheus
        self.stream_metrics = StreamMetrics(prometheus)
        self._queues = [
            SinkQueue(sink, on_failure=prometheus.failed, on_dropped=partial(prometheus.failed, "overflow"))
            for sink in sinks
        ]
        self._clock = clock
        self._langsmith = LangSmithRuns(
            subagents=subagents, features=features, on_lost=partial(prometheus.failed, "feedback")
        )
        self._tracker = Tracker(
            emit=self._emit,
            live=prometheus,
            recorder=Recorder(
                meter=Meter(book, self._failed),
                agent_name=agent_name,
                feedback=feedback or {},
                state_labels=tuple(state_labels),
                clock=clock,
            ),
            langsmith=self._langsmith,
            state_labels=tuple(state_labels),
            clock=clock,
            now=now,
        )
        self._open_call = self._tracker.open_call_of

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the handler itself: a copied config or model goes on reporting to it."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the runs still open as cancelled, then every sink that can be closed."""
        self._tracker.close()
        for close in (partial(close_all, self._queues), self._langsmith.close, self._prometheus.close):
            try:
                close()
            except Exception:
                self._failed("close", None)

    def emit(self, record: Record) -> None:
        """Hand a record to every sink; for code outside LangChain that has one of its own.

        A record that contradicts itself is logged and counted as a failure, and reaches no sink.
        """
        if (fault := fault_of(record)) is not None:
            _logger.error("A record was handed in that cannot be counted: %s.", fault)
            self._prometheus.failed("emit")
            return
        self._emit(record)

    def _emit(self, record: Record) -> None:
        try:
            self._prometheus.emit(record)
        except Exception:
            self._failed("emit", getattr(record, "run_id", None))
        for queue in self._queues:
            queue.emit(record)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a request (a root run), a node's run, or a link between runs."""
        try:
            self._tracker.open_chain(run_id, parent_run_id, kwargs.get("name"), inputs, tags, metadata)
        except Exception:
            self._failed("on_chain_start", run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a request, a node's run or a link."""
        try:
            self._tracker.end(run_id, SUCCESS, outputs)
        except Exception:
            self._failed("on_chain_end", run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a request, a node's run or a link that failed, was cancelled or interrupted."""
        try:
            outcome = outcome_of(error)
            # What a node hands to the graph above is its output, although it travels as an exception.
            self._tracker.end(run_id, outcome, error.args[0] if outcome.status == "success" and error.args else None)
        except Exception:
            self._failed("on_chain_error", run_id)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a chat model's call."""
        try:
            sent = messages[0] if messages else ()
            self._tracker.open_call(
                run_id,
                parent_run_id,
                tags,
                metadata,
                serialized=serialized,
                params=kwargs.get("invocation_params"),
                messages=sent,
            )
        except Exception:
            self._failed("on_chat_model_start", run_id)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a text-completion model's call."""
        try:
            self._tracker.open_call(
                run_id,
                parent_run_id,
                tags,
                metadata,
                serialized=serialized,
                params=kwargs.get("invocation_params"),
                prompts=prompts,
            )
        except Exception:
            self._failed("on_llm_start", run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take one streamed chunk in; guarded in place, since a wrapper costs as much as the work."""
        try:
            call = self._open_call(run_id)
            if call is None:
                return
            stream = call.stream or self._tracker.open_stream(call)
            if chunk is None:
                call.texts.append(str(token))
            elif call.chunks and call.chunks[-1] is chunk:
                return  # attached twice
            else:
                call.chunks.append(chunk)
            if (token and isinstance(token, str)) or _has_content(token, chunk):
                stream.arrived(self._clock())
        except Exception:
            self._failed("on_llm_new_token", run_id)

    def on_stream_event(
        self,
        event: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take one event of a v3 stream in; of a model that fires tokens as well those alone are counted."""
        try:
            call = self._open_call(run_id)
            if call is None or call.last_event is event:
                return  # not open, or attached twice
            call.last_event = event
            if "usage" in event:
                call.told = event["usage"]
            stream = call.stream or self._tracker.open_stream(call)
            if call.chunks:
                return
            if event.get("event") == "content-block-delta":
                call.texts.append(_text_of(event["delta"], "text", "args"))
                stream.arrived(self._clock())
            elif event.get("event") == "content-block-start":
                call.texts.append(_text_of(event["content"], "name"))
        except Exception:
            self._failed("on_stream_event", run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a model's call that was answered."""
        try:
            self._tracker.end(run_id, SUCCESS, response)
        except Exception:
            self._failed("on_llm_end", run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a model's call that failed or was cancelled, with what it had answered so far."""
        try:
            self._tracker.end(run_id, outcome_of(error), kwargs.get("response"))
        except Exception:
            self._failed("on_llm_error", run_id)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a tool's call."""
        try:
            self._tracker.open_tool(run_id, parent_run_id, metadata, _name(serialized, kwargs), is_retriever=False)
        except Exception:
            self._failed("on_tool_start", run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a tool's call."""
        try:
            self._tracker.end(run_id, SUCCESS)
        except Exception:
            self._failed("on_tool_end", run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a tool's call that failed, was cancelled or interrupted."""
        try:
            self._tracker.end(run_id, outcome_of(error))
        except Exception:
            self._failed("on_tool_error", run_id)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a retriever's call."""
        try:
            self._tracker.open_tool(run_id, parent_run_id, metadata, _name(serialized, kwargs), is_retriever=True)
        except Exception:
            self._failed("on_retriever_start", run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a retriever's call."""
        try:
            self._tracker.end(run_id, SUCCESS)
        except Exception:
            self._failed("on_retriever_end", run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a retriever's call that failed or was cancelled."""
        try:
            self._tracker.end(run_id, outcome_of(error))
        except Exception:
            self._failed("on_retriever_error", run_id)

    def _failed(self, callback: str, run_id: UUID | None) -> None:
        _logger.exception("%s failed for run %s; the application is not affected.", callback, run_id)
        self._prometheus.failed(callback)


def _name(serialized: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> str:
    name = kwargs.get("name") or (serialized or {}).get("name")
    return name if isinstance(name, str) else ""


def _text_of(part: Mapping[str, Any], *keys: str) -> str:
    """Return what a part of a v3 stream adds to the answer's text and tool calls."""
    return "".join(text for key in keys if isinstance(text := part.get(key), str))


def _has_content(token: str | list[str | dict[str, Any]], chunk: GenerationChunk | ChatGenerationChunk | None) -> bool:
    """Say whether what came without being a text says something: a block's text, a tool call, an image."""
    message = getattr(chunk, "message", None)
    if message is None:
        content: Any = token
    elif getattr(message, "tool_call_chunks", None):
        return True
    else:
        content = message.content
    return bool(content) if isinstance(content, str) else any(map(_is_filled, content))


def _is_filled(block: str | dict[str, Any]) -> bool:
    """Say whether a block says more than which one it is: OpenAI's Responses begin and end one without a word."""
    if isinstance(block, str):
        return bool(block)
    return any(value and key not in _NO_CONTENT for key, value in block.items())
