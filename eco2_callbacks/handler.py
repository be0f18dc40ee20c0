"""Eco2CallbackHandler: puts the parts of the library together behind one handler."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks import unsent_calls
from eco2_callbacks.arguments import (
    check_callable,
    check_count,
    check_instance,
    check_mapping,
    check_seconds,
    check_text,
    check_texts,
)
from eco2_callbacks.billing import CallBiller
from eco2_callbacks.errors import BudgetExceeded
from eco2_callbacks.handler_parts import (
    Budget,
    check_now,
    count_failure,
    count_unreadable,
    open_ledger,
    open_prices,
    price_metrics,
    read_budget_settings,
    read_tenants,
)
from eco2_callbacks.installation import install, uninstall
from eco2_callbacks.langsmith import (
    Features,
    LangSmithObserver,
    read_features,
    release_langsmith_key,
    withhold_langsmith_key,
)
from eco2_callbacks.ledger import LedgerSink
from eco2_callbacks.log_once import is_first
from eco2_callbacks.measurement import Measurement, TotalsObserver
from eco2_callbacks.own_runs import Operation, OwnRunHost, ToolRun, check_operation
from eco2_callbacks.plain_runs import is_plain
from eco2_callbacks.pricing import PriceBook, start_refresh
from eco2_callbacks.prometheus import PrometheusExporter, StreamMetrics
from eco2_callbacks.records import LLMCall, Record, validate_record
from eco2_callbacks.run_callbacks import RUN_CALLBACKS, RunCallbacks
from eco2_callbacks.runs import (
    AttributionKeys,
    Feedback,
    IdentityReader,
    PlaceFinder,
    Recorder,
    RecordQueue,
    Tracker,
    check_feedback,
    read_keys,
)
from eco2_callbacks.sdk_retries import SDKRetryCounter
from eco2_callbacks.settings import budgets_of, ledger_of, refresh_of
from eco2_callbacks.sinks import Sink, SinkObserver, check_sinks
from eco2_callbacks.totals import Totals
from eco2_callbacks.usage import ServedModel

if TYPE_CHECKING:
    from eco2_callbacks.budgets import BudgetControl, BudgetGate, Budgets, BudgetSource, Caller
    from eco2_callbacks.ledger import LedgerObserver
    from eco2_callbacks.own_runs import SDKCall

__all__ = ["Eco2CallbackHandler"]

_Model = TypeVar("_Model")
_logger = logging.getLogger(__name__)
_utc_now = partial(datetime.now, UTC)
# The error counter of each is initialised at 0.
_CALLBACKS = (
    *RUN_CALLBACKS,
    *("emit", "call", "tool", "overflow", "langsmith", "feedback", "stream_metrics", "attribution", "prices", "close"),
)


class Eco2CallbackHandler(RunCallbacks):
    """Measures every model call, node, tool, retriever and request below the config it is attached to.

    Args:
        registry: Registry of the Prometheus metrics; handlers on one registry share them.
        prices: A price book, or the path of a file of custom rates. None reads the file that the environment variable
            ``ECO2_PRICES`` names, and takes public rates without one; ``PriceBook()`` takes them in any case.
        refresh_prices: Whether to fetch genai-prices' data once an hour, True or the URL of a mirror. None is
            ``ECO2_REFRESH_PRICES``, or no where that is unset. One thread fetches for the whole process.
        sinks: Further outputs for the records. ``Sink`` says on which thread each is called.
        ledger: The ledger that keeps every record: a path, a URL, or a ``LedgerSink``, which its owner closes. None is
            ``ECO2_LEDGER``, or no ledger where that is unset; ``""`` means none in any case.
        agent_name: This application's name: the label of its requests, and the agent of what no other agent does.
        subagents: Names of nodes and agents that are also counted as subagents.
        tenants: Tenants that keep their label whatever ``max_tenants`` is; those with a budget do as well.
        features: What serves each intent (or node), for the tags of a trace: a ``Feature``, or its name.
        feedback: Quality scores that nodes return: node -> key of the score -> dotted path in the node's output.
        budgets: What may be spent: ``Budgets``, a list of ``BudgetRule``, the path of a ``budgets.toml``, or a
            mapping of tenants, ``{"acme": {"monthly_usd": 100}}``. None reads the file that the environment variable
            ``ECO2_BUDGETS`` names; ``{}`` means none in any case. ``callbacks`` attaches the gate that refuses calls.
        state_labels: Keys of the graph's state that the handler follows; ``intent`` and ``tenant_id`` become labels.
        attribution_keys: Where ``tenant_id``, ``user_id``, ``session_id``, ``job_id``, ``feature`` and
            ``prompt_version`` are read from: field -> key of metadata, ``configurable`` and runtime context, or a list
            of keys, of which the first with a value counts. By default the field's own name; for ``session_id`` then
            ``thread_id``.
        max_label_values: Number of values that a label takes; later ones become ``other``.
        max_tenants: The same for tenants; None is ``max_label_values``.
        clock: Monotonic seconds, for durations.
        now: Wall time with a time zone, for time stamps and the prices of the day.

    Attributes:
        stream_metrics: For publishers of streams: counts published tokens and recovered readers.

    Raises:
        ConfigError: If an argument cannot be used.
        RatesFileError: If the file of custom rates cannot be read.
        LedgerError: If the ledger cannot be opened.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry = REGISTRY,
        prices: PriceBook | str | Path | None = None,
        refresh_prices: bool | str | None = None,
        sinks: Sequence[Sink] = (),
        ledger: str | Path | LedgerSink | None = None,
        agent_name: str = "",
        subagents: Sequence[str] = (),
        tenants: Sequence[str | int | UUID] = (),
        features: Features | None = None,
        feedback: Feedback | None = None,
        budgets: Mapping[str, Budget] | BudgetSource | None = None,
        state_labels: Sequence[str] = ("intent",),
        attribution_keys: AttributionKeys | None = None,
        max_label_values: int = 100,
        max_tenants: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        super().__init__()
        self._withholds_key = False
        check_instance("registry", registry, CollectorRegistry, "leave it out for prometheus_client.REGISTRY")
        sinks = check_sinks(sinks)
        check_text("agent_name", agent_name, may_be_empty=True)
        subagents, state_labels = check_texts("subagents", subagents), check_texts("state_labels", state_labels)
        features, feedback = read_features(features), check_feedback(feedback)
        budget_settings = read_budget_settings(budgets_of(os.environ) if budgets is None else budgets)
        declared_tenants, keys = read_tenants(tenants), read_keys(attribution_keys)
        check_count("max_label_values", max_label_values)
        if max_tenants is not None:
            check_count("max_tenants", max_tenants)
        check_callable("clock", clock, "time.monotonic")
        check_now(check_callable("now", now, "lambda: datetime.now(UTC)"))
        book = open_prices(prices)
        exporter = PrometheusExporter(
            registry,
            agent_name=agent_name,
            subagents=subagents,
            tenants=[*declared_tenants, *(() if budget_settings is None else budget_settings.tenants())],
            scores=[(node, key) for node, keys in feedback.items() for key in keys],
            max_label_values=max_label_values,
            max_tenants=max_tenants,
        )
        exporter.watch_prices(price_metrics(exporter, book, now))
        for callback in _CALLBACKS:
            exporter.init_error(callback)
        self._exporter = exporter
        self.stream_metrics = StreamMetrics(exporter)
        self._totals = TotalsObserver()
        self._sinks = SinkObserver(sinks, on_failure=exporter.count_error)
        self._ledger = open_ledger(ledger_of(os.environ) if ledger is None else ledger, registry, exporter)
        self._langsmith = LangSmithObserver(subagents=subagents, features=features, on_failure=exporter.count_error)
        # Not a method of the handler: what waits to be recorded must not keep it.
        self._failed = failed = partial(count_failure, exporter)
        biller = CallBiller(book, on_failure=failed)
        recorder = Recorder(bill=biller.record, feedback=feedback)
        # Outputs with threads of their own. The first one runs the queue: its records come soon.
        queued: list[LedgerObserver | SinkObserver] = [
            *([] if self._ledger is None else [self._ledger]),
            *([self._sinks] if sinks else []),
        ]
        observers = (exporter, self._totals, *queued, self._langsmith)
        queue = RecordQueue(
            recorder=recorder,
            observers=observers,
            is_plain=is_plain,
            is_immediate=exporter.is_immediate or any(observer.is_inline for observer in queued),
            settler=exporter,
            run_soon=queued[0].run_soon if queued else None,
            on_failure=failed,
        )
        self._queue = queue
        self._tracker = Tracker(
            recorder=recorder,
            queue=queue,
            observers=observers,
            on_failure=failed,
            places=PlaceFinder(agent_name),
            identities=IdentityReader(keys, partial(count_unreadable, exporter)),
            state_labels=state_labels,
            # In the shadow of the first call: by its end the prices are there.
            on_first_call=None if book.is_loaded else partial(exporter.run_soon, book.load),
            clock=clock,
            now=now,
        )
        self._langsmith.follow(is_open=self._tracker.is_open, settle=queue.settle)
        exporter.watch_open_runs(self._tracker.open_run_count)
        self._prices, self._settle_waiting = book, queue.settle
        self._refresh = start_refresh(
            refresh_of(os.environ) if refresh_prices is None else refresh_prices,
            partial(exporter.count_error, "prices"),
        )
        self._now = now
        self._budgets: BudgetControl | None = None
        self._gate = None
        if budget_settings is not None:
            self._enable_budgets(budget_settings)
        self._clock = clock
        try:
            # The only change outside this object, made where LangSmith's key would really leave: its client reads the
            # environment before the first callback. close() takes it back.
            self._withholds_key = withhold_langsmith_key()
        except Exception:
            _logger.exception(
                "The OTLP settings could not be read; LangSmith's key may be sent to an OTLP endpoint. Correct them."
            )
        unsent_calls.register(self._forget_calls)
        self._open_run = self._tracker.open_run
        self._sdk_retries = SDKRetryCounter(self._tracker.open_call, exporter.count_error)
        self._own_runs = OwnRunHost(self._tracker, self._on_own_chunk, self._failed, self._faulted, self._admit)

    @property
    def raise_error(self) -> bool:  # type: ignore[override]  # a plain attribute of LangChain's handlers
        """Whether LangChain passes on what a callback raised: only the refusal of a call.

        The gate refuses calls. Where the handler was attached without its gate, it asks the gate itself.
        """
        return isinstance(sys.exception(), BudgetExceeded)

    @property
    def budget_gate(self) -> BudgetGate | None:
        """The gate that refuses calls; None without budgets."""
        return self._gate

    @property
    def callbacks(self) -> list[BaseCallbackHandler]:
        """What a config attaches: the gate, if there are budgets, and the handler."""
        return [self] if self._gate is None else [self._gate, self]

    def enable_run_limits(self) -> None:
        """Make the gate for requests with a limit of their own (``run_config(max_usd=...)``), if there is none yet."""
        from eco2_callbacks.budgets import Budgets  # noqa: PLC0415

        if self._gate is None:
            self._enable_budgets(Budgets())

    def budgets_since(self) -> datetime | None:
        """Return the earliest time whose calls still count in a budget; None without such a budget."""
        return None if self._budgets is None else self._budgets.since()

    def restore_budgets(self, calls: Iterable[LLMCall]) -> None:
        """Add to the budgets what calls cost before this process began; call it once, before the first request.

        A handler with a ledger has done so itself, and then leaves these calls out. A store takes only what it has
        lost: an account that it knows stays as it is.

        Args:
            calls: The calls since ``budgets_since()``, as the application has kept them; others are left out.
        """
        if self._budgets is not None:
            self._budgets.restore(calls)

    def _enable_budgets(self, settings: Budgets) -> None:
        from eco2_callbacks.budgets import BudgetControl, Caller  # noqa: PLC0415

        labels_at = self._tracker.labels_at

        def identify(
            parent_run_id: UUID | None,
            run_id: UUID,
            metadata: Mapping[str, Any],
            served: ServedModel | None,
            model: str,
        ) -> Caller:
            labels = partial(labels_at, run_id, parent_run_id, metadata, served, model)
            return Caller(run_id, metadata, labels, provider="" if served is None else served.provider, model=model)

        control = BudgetControl(
            settings,
            prices=self._prices,
            now=self._now,
            exporter=self._exporter,
            identify=identify,
            on_event=self._sinks.emit_event,
            on_refused=unsent_calls.forget,
            on_failure=self._failed,
            settle_waiting=self._settle_waiting,
            open_run=self._tracker.open_run,
            ledger=None if self._ledger is None else self._ledger.sink,
        )
        self._tracker.add_observer(control.observer)
        self._budgets, self._gate = control, control.gate

    def _admit(
        self,
        serialized: Mapping[str, Any],
        params: Mapping[str, Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any],
        messages: Sequence[BaseMessage],
    ) -> None:
        """Let an SDK's call start, or raise BudgetExceeded."""
        if self._gate is not None:
            self._gate.check(
                serialized, {"invocation_params": params}, run_id, parent_run_id, metadata, messages=messages
            )

    def _forget_calls(self, run_ids: Sequence[UUID], reason: str) -> None:
        for run_id in run_ids:
            self._tracker.discard(run_id, reason)
            if self._budgets is not None:
                self._budgets.release(run_id)
            # A tracer before the gate has sent the start of the refused call.
            self._langsmith.end_started(run_id, reason)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the handler itself: a copied config or model goes on reporting to it."""
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Wait until all records so far are counted and have reached every sink.

        Args:
            timeout_seconds: How long to wait.

        Returns:
            Whether the time sufficed.

        Raises:
            ConfigError: If the time is no number of 0 or more.
        """
        until = time.monotonic() + check_seconds("timeout_seconds", timeout_seconds)
        self._exporter.flush()
        if self._budgets is not None and not self._budgets.flush(timeout_seconds):
            return False
        flushed = self._sinks.flush(max(0.0, until - time.monotonic()))
        if self._ledger is not None:
            flushed = self._ledger.flush(max(0.0, until - time.monotonic())) and flushed
        return self._langsmith.flush(max(0.0, until - time.monotonic())) and flushed

    def install(self) -> None:
        """Attach the handler to every run that starts in the process from now on.

        It then measures the calls that no config reaches: those with ``callbacks=[]``, in plain threads and thread
        pools. Several handlers can be installed. A handler that is also in a config still sees each run once. A forked
        child keeps what is installed.
        """
        install(self)

    def uninstall(self) -> None:
        """Undo ``install()``, in all threads; runs that are open are measured to their end."""
        uninstall(self)

    def totals(self) -> Totals:
        """Return what all model calls of this handler consumed and cost so far, in this process."""
        self._queue.settle()
        return self._totals.totals()

    def request_started_at(self, trace_id: UUID) -> datetime | None:
        """Return when an open request started, as its record will say; None if no such request is open.

        With the trace id this is the key of the request in the ledger: a program that outlives the process of a request
        can emit the ``GraphRun`` that the dead process could not, and none is there twice.
        """
        return self._tracker.request_started_at(trace_id)

    def measure(self) -> Measurement:
        """Return a block that adds up the model calls that start in it.

        Other requests of the process are left out::

            with handler.measure() as m:
                graph.invoke(inputs, {"callbacks": [handler]})
            print(m.cost)
        """
        return Measurement(self._totals, self._queue.settle)

    def count_sdk_retries(self, model: _Model) -> _Model:
        """Count the retries inside a model's SDK, which fire no callback and may be billed; return the model.

        They stand in ``LLMCall.sdk_retries`` and in ``llm_retries_total{reason="sdk"}``. Event hooks are added to the
        HTTP clients of the model, which models can share; ``close()`` takes them off.

        Args:
            model: A ``ChatOpenAI``, ``ChatAnthropic`` or ``ChatGoogleGenerativeAI``, or a binding or fallback of them.

        Raises:
            ConfigError: If it is none of them.
        """
        self._sdk_retries.watch(model)
        return model

    def close(self) -> None:
        """Uninstall the handler, close the open runs as cancelled, then every output."""
        uninstall(self)
        self._sdk_retries.close()
        if self._refresh is not None:
            self._refresh.stop()
        self._tracker.close()
        budgets = () if self._budgets is None else (self._budgets.close,)
        closers = (self._sinks.close, *([] if self._ledger is None else [self._ledger.close]), self._langsmith.close)
        for close in (*budgets, *closers, self._exporter.close):
            try:
                close()
            except Exception:
                self._failed("close", None)
        if self._withholds_key:
            self._withholds_key = False
            release_langsmith_key()

    def emit(self, record: Record) -> None:
        """Hand a record to every sink and to Prometheus, for code outside LangChain that makes its own.

        A record that contradicts itself is logged, counted as an error, and dropped.
        """
        if (fault := validate_record(record)) is not None:
            _logger.error("A record was passed to emit() that cannot be counted: %s.", fault)
            self._exporter.count_error("emit")
            return
        self._exporter.emit(record)
        self._totals.emit(record)
        self._sinks.emit(record)
        if self._ledger is not None:
            self._ledger.emit(record)
        if self._budgets is not None:
            self._budgets.observer.settle(record)

    def call(
        self,
        *,
        provider: str,
        model: str,
        base_url: str | None = None,
        operation: Operation = "chat",
        request: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> SDKCall:
        """Return a block that measures one model call made with a provider's own SDK.

        It counts in the node and request around it, and is a run on LangSmith where they are traced::

            with handler.call(provider="openai", model="gpt-5.2") as call:
                call.answered(client.responses.create(model="gpt-5.2", input="Where does glass go?"))

        Args:
            provider: Who is paid: ``openai``, ``azure``, ``google_genai``, ``google_vertexai``, ``anthropic``, or
                another of LangChain's ``ls_provider`` names.
            model: The requested model.
            base_url: The client's address, where it is not the provider's own; it decides who is paid.
            operation: ``chat``, ``text_completion`` or ``embeddings``.
            request: What is passed to the SDK (``messages``, ``tools``, ...): for estimates, retries and LangSmith.
            tags: Tags of the call.
            metadata: Metadata of the call.

        Raises:
            ConfigError: If an argument cannot be used.
            BudgetExceeded: On entry of the block, if a budget refuses the call.
        """
        from eco2_callbacks.own_runs import SDKCall  # noqa: PLC0415

        check_text("provider", provider)
        check_text("model", model)
        if base_url is not None:
            check_text("base_url", base_url)
        return SDKCall(
            self._own_runs,
            provider=provider,
            model=model,
            base_url=base_url,
            operation=check_operation(operation),
            request=check_mapping("request", request),
            metadata=check_mapping("metadata", metadata),
            tags=check_texts("tags", tags),
        )

    def tool(
        self,
        name: str,
        *,
        inputs: Mapping[str, Any] | str = "",
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> ToolRun:
        """Return a block that measures one run of a tool that is no LangChain tool.

        Args:
            name: The tool's name.
            inputs: What the tool gets, for LangSmith and to find retries.
            tags: Tags of the run.
            metadata: Metadata of the run.

        Raises:
            ConfigError: If an argument cannot be used.
        """
        return ToolRun(
            self._own_runs,
            name=check_text("name", name),
            inputs=inputs if isinstance(inputs, str) else check_mapping("inputs", inputs),
            metadata=check_mapping("metadata", metadata),
            tags=check_texts("tags", tags),
        )

    def _on_own_chunk(self, run_id: UUID, chunk: ChatGenerationChunk) -> None:
        self.on_llm_new_token(chunk.text, chunk=chunk, run_id=run_id)

    def _faulted(self, fault: str, callback: str) -> None:
        """Log once what the application passed that cannot be used, and count it under a callback if one is named."""
        if is_first("fault", fault):
            _logger.warning("%s.", fault)
        if callback:
            self._exporter.count_error(callback)
