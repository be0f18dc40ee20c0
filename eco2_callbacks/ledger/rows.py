"""Turns records into rows of the ledger's tables: plain numbers and texts, never content."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from decimal import Decimal
from operator import attrgetter
from typing import Any

from msgspec.structs import replace

from eco2_callbacks.ledger.cells import (
    FIRST_TIME,
    LAST_TIME,
    MAX_INTEGER,
    bucket_of,
    cleaned,
    cleaned_all,
    json_text,
    microseconds,
    picodollars,
    rates_json,
    series_id,
    tags_json,
)
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.pricing import EXACT, Cost, RatesUsed
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.runs import plain_text
from eco2_callbacks.usage import TokenUsage

__all__ = [
    "RECORD_TABLES",
    "Batch",
    "Row",
    "rating_row",
]

Row = tuple[Any, ...]
_FIRST_TIME, _LAST_TIME = microseconds(FIRST_TIME), microseconds(LAST_TIME)
# Tables with one row for each record of a kind.
RECORD_TABLES = frozenset({"calls", "node_runs", "tool_calls", "retriever_calls", "requests"})

_units = attrgetter(*(name for name in TokenUsage.__struct_fields__ if name != "image_sizes"))
_NO_UNITS = (None,) * (len(TokenUsage.__struct_fields__) - 1)
_call_texts = attrgetter(
    *("node", "purpose", "provider", "model", "request_model", "error_type", "service_tier", "response_id")
)
_owner = attrgetter(
    *("tenant_id", "user_id", "session_id", "job_id", "feature", "prompt_version", "agent_name", "path", "intent")
)


class Batch:
    """Rows of several records, by table, in the order of ``TABLES``' columns.

    Attributes:
        rows: The rows by table.
        records: Number of records.
        oldest: When the first of them was added, in seconds since 1970.

    Args:
        records: The first records.
        at: As ``oldest``.
        metadata_keys: The keys of a call's metadata whose values are kept.
    """

    def __init__(self, records: Iterable[Record] = (), *, at: float = 0.0, metadata_keys: Collection[str] = ()) -> None:
        self.rows: dict[str, list[Row]] = {name: [] for name in TABLES}
        self.records = 0
        self.oldest = at
        self._metadata_keys = metadata_keys
        self._series: set[int] = set()
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        """Add the rows of one record.

        Raises:
            ValueError: If its duration is no number, or its start is out of the range of a backend.
            OverflowError: If a count or a cost is more than 64 bits hold.
        """
        rows = self.rows
        if not _FIRST_TIME <= microseconds(record.started_at) < _LAST_TIME:
            raise ValueError(f"started_at is {record.started_at!r}, wanted a time from 1900 to 2261")
        if not math.isfinite(record.duration_seconds):
            raise ValueError(f"duration_seconds is {record.duration_seconds!r}, wanted a finite number")
        match record:
            case LLMCall():
                self._add_call(record)
            case NodeRun():
                run = self._run(record, record.run_id)
                node = cleaned(record.node)
                rows["node_runs"].append(
                    (
                        *run,
                        node,
                        record.step,
                        record.parallel,
                        *_outcome(record),
                        *_totals(record),
                        *_span(record),
                        _enclosing(record),
                    )
                )
                for key, score in record.feedback.items():
                    if not math.isfinite(score):
                        continue
                    rows["feedback"].append((*run, node, cleaned(key), float(score)))
            case ToolCall():
                rows["tool_calls"].append(
                    (
                        *self._run(record, record.run_id),
                        cleaned(record.tool_name),
                        cleaned(record.node),
                        *_outcome(record),
                        *_span(record),
                        _enclosing(record),
                    )
                )
            case RetrieverCall():
                rows["retriever_calls"].append(
                    (
                        *self._run(record, record.run_id),
                        cleaned(record.retriever),
                        cleaned(record.node),
                        *_outcome(record),
                        *_span(record),
                        _enclosing(record),
                    )
                )
            case GraphRun():
                rows["requests"].append(
                    (
                        *self._run(record, record.trace_id),
                        *_outcome(record),
                        record.resumed,
                        cleaned(record.provider),
                        cleaned(record.model),
                        record.llm_calls,
                        record.tool_calls,
                        *_totals(record),
                        tags_json(record.tags),
                        *_span(record),
                    )
                )
        self.records += 1

    def split(self) -> tuple[Batch, Batch]:
        """Return the rows as two batches of half the size."""
        both = Batch(at=self.oldest), Batch(at=self.oldest)
        half = self.row_count() // 2
        taken = 0
        for name, rows in self.rows.items():
            first = min(max(half - taken, 0), len(rows))
            taken += len(rows)
            for batch, part in zip(both, (rows[:first], rows[first:]), strict=True):
                batch.rows[name] = part
                batch.records += len(part) if name in RECORD_TABLES else 0
        return both

    def row_count(self) -> int:
        """Return the number of rows of all tables."""
        return sum(map(len, self.rows.values()))

    def _run(self, record: Record, run_id: object) -> Row:
        owner = cleaned_all(_owner(record))
        trace_id = str(record.trace_id)
        # A call outside any request is its own.
        return (
            microseconds(record.started_at),
            trace_id if run_id is record.trace_id else str(run_id),
            trace_id,
            *owner,
        )

    def _add_call(self, call: LLMCall) -> None:
        run = self._run(call, call.run_id)
        usage = call.usage
        node, purpose, provider, model, request_model, error_type, service_tier, response_id = cleaned_all(
            _call_texts(call)
        )
        tenant_id, _, _, _, feature, prompt_version, agent_name, path, intent = run[3:]
        labels = (tenant_id, feature, prompt_version, agent_name, path, intent, node, purpose, provider, model)
        series = series_id(labels)
        if series not in self._series:
            self._series.add(series)
            self.rows["series"].append((series, *(label or "" for label in labels)))
        units = _NO_UNITS if usage is None else _units(usage)
        if usage is not None and max(units) > MAX_INTEGER:
            raise OverflowError(f"a count of {usage!r} is more than a row holds")
        rating = self._rating(call, run)
        self.rows["calls"].append(
            (
                *run,
                None if call.parent_run_id is None else str(call.parent_run_id),
                series,
                node,
                purpose,
                provider,
                model,
                request_model,
                call.operation,
                call.status,
                error_type,
                call.duration_seconds,
                call.retry,
                call.rate_limited,
                call.time_to_first_token_seconds,
                call.streamed,
                call.streamed_tokens,
                *units,
                json_text(usage.image_sizes) if usage is not None and usage.image_sizes else None,
                call.estimated,
                call.estimate_reason,
                call.unpriced_reason,
                call.cost_source,
                call.estimator,
                service_tier,
                call.from_cache,
                response_id,
                tags_json(call.tags),
                bucket_of(call.duration_seconds),
                call.otel_trace_id,
                call.otel_span_id,
                self._metadata(call) if self._metadata_keys else None,
                call.sdk_retries,
                _enclosing(call),
            )
        )
        if rating is not None:
            self.rows["ratings"].append(rating)

    def _metadata(self, call: LLMCall) -> str | None:
        """Return the kept values of a call's metadata as JSON, None where it has none of them."""
        # Sorted: equal values are one group in a query.
        texts = {key: cleaned(plain_text(call.metadata.get(key))) for key in sorted(self._metadata_keys)}
        kept = {key: text for key, text in texts.items() if text}
        return json_text(kept) if kept else None

    def _rating(self, call: LLMCall, run: Row) -> Row | None:
        """Return the first rating of a call, None where nothing is known of its cost."""
        if call.cost is None and call.computed_cost is None:
            return None
        list_cost = call.list_cost
        if list_cost is None:
            # A record that the application made may lack it. A custom rate hides the public one.
            list_cost = {"rates": call.cost, "provider": call.computed_cost}.get(call.cost_source)
        return rating_row(
            run[0],
            run[1],
            # The same for the same record, so that one sent twice is stored once.
            computed_at=run[0] + round(call.duration_seconds * 1e6),
            rates=call.rates,
            cost=call.cost,
            list_usd=None if list_cost is None else list_cost.total_usd,
            cache_savings_usd=call.cache_savings_usd,
            cache_surcharge_usd=call.cache_surcharge_usd,
            margin_usd=call.margin_usd,
            is_unpriced=call.unpriced_reason == "unpriced_unit",
        )


def rating_row(
    started_at: int,
    run_id: str,
    *,
    computed_at: int,
    rates: RatesUsed | None,
    cost: Cost | None,
    list_usd: Decimal | None,
    cache_savings_usd: Decimal,
    cache_surcharge_usd: Decimal,
    margin_usd: Decimal = Decimal(0),
    is_unpriced: bool = False,
) -> Row:
    """Return one row of ``ratings``.

    Args:
        started_at: When the call started, in microseconds since 1970.
        run_id: The call's run id.
        computed_at: When the cost was computed; of several ratings of a call the newest holds.
        rates: The prices used; None where there are none.
        cost: What is paid.
        list_usd: What the public price gives; None where it is unknown.
        cache_savings_usd: As the record's.
        cache_surcharge_usd: As the record's.
        margin_usd: What is charged on top of the cost.
        is_unpriced: Whether the cost leaves out a unit or a tier that has no rate.
    """
    paid = None if cost is None else cost.total_usd
    list_cost = None if list_usd is None else picodollars(list_usd)
    is_list = paid == list_usd  # nearly always
    contracted_cost = list_cost if is_list else None if paid is None else picodollars(paid)
    discount = None
    if paid is not None and list_usd is not None:
        discount = 0 if is_list else picodollars(EXACT.subtract(list_usd, paid))
    return (
        started_at,
        run_id,
        computed_at,
        "" if rates is None else rates.version,
        None if rates is None else rates_json(_with_clean_names(rates)),
        "USD",
        list_cost,
        discount,
        contracted_cost,
        json_text({} if cost is None else cost.parts),
        picodollars(cache_savings_usd),
        picodollars(cache_surcharge_usd),
        None if paid is None else bucket_of(float(paid)),
        picodollars(margin_usd),
        is_unpriced,
    )


def _with_clean_names(rates: RatesUsed) -> RatesUsed:
    """Return the rates as a backend can hold them: an answer can name its model with a NUL."""
    names = cleaned_all((rates.model, *rates.other_models))
    if names == (rates.model, *rates.other_models):
        return rates
    model, *others = (name or "" for name in names)
    return replace(rates, model=model, other_models=tuple(others))


def _outcome(record: Record) -> Row:
    return record.status, cleaned(record.error_type), record.duration_seconds


def _totals(record: NodeRun | GraphRun) -> Row:
    usage = record.usage
    total = picodollars(record.cost.total_usd)
    return usage.input_tokens, usage.output_tokens, total, record.estimated, record.unpriced_calls


def _span(record: Record) -> Row:
    return record.otel_trace_id, record.otel_span_id


def _enclosing(record: LLMCall | NodeRun | ToolCall | RetrieverCall) -> str | None:
    return None if record.enclosing_run_id is None else str(record.enclosing_run_id)
