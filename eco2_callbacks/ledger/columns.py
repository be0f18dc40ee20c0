"""The columns of the ledger's tables, by name and kind; the one place that rows, schema and backends share."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias, cast, get_args

from eco2_callbacks.usage import TokenUsage

__all__ = ["MARKING", "MONEY_DIGITS", "SERIES_DIMENSIONS", "TABLES", "Column", "Kind", "TableColumns", "parse_columns"]

# time: microseconds since 1970 UTC; money: dollars; code: a text with few different values; json: a text of JSON.
Kind: TypeAlias = Literal["time", "uuid", "code", "text", "int", "float", "bool", "money", "json"]
# Decimal places of a dollar: a token of any public price is a multiple of 1e-12.
MONEY_DIGITS = 12


class Column(NamedTuple):
    """One column; ``is_nullable`` where None stands for unknown."""

    name: str
    kind: Kind
    is_nullable: bool


class TableColumns(NamedTuple):
    """One table.

    Attributes:
        columns: In their order in a row.
        key: Names of the key's columns.
        is_monthly: Whether it grows with every record, so that it is partitioned by the month of ``started_at``.
    """

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    is_monthly: bool

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(column.name for column in self.columns)


def parse_columns(text: str) -> tuple[Column, ...]:
    """Return the columns of ``name kind`` pairs, separated by commas; a ``?`` after the kind allows NULL."""
    columns = []
    for pair in text.split(","):
        name, kind = pair.split()
        assert kind.removesuffix("?") in get_args(Kind), pair  # noqa: S101  our own text
        columns.append(Column(name, cast("Kind", kind.removesuffix("?")), kind.endswith("?")))
    return tuple(columns)


# What hourly roll-ups are grouped by. A user, a session and a tag have too many values.
SERIES_DIMENSIONS = (
    *("tenant_id", "feature", "prompt_version", "agent_name", "path", "intent", "node", "purpose", "provider"),
    "model",
)
# Tables whose rows change the roll-up of their hour.
MARKING = ("calls", "ratings", "requests")
_UNITS = ", ".join(f"{name} int?" for name in TokenUsage.__struct_fields__ if name != "image_sizes")
_KEY = "started_at time, run_id uuid"
_OWNER = (
    "tenant_id code, user_id text?, session_id text?, job_id text?, feature code?, prompt_version code?, "
    "agent_name code, path code, intent code"
)
_OUTCOME = "status code, error_type code?, duration_seconds float"
_SPAN = "otel_trace_id text?, otel_span_id text?"
_ENCLOSING = "enclosing_run_id uuid?"
_RUN = f"{_KEY}, trace_id uuid, {_OWNER}"
_TOTALS = "input_tokens int, output_tokens int, cost money, estimated bool, unpriced_calls int"
_SUMS = (
    "calls int, errors int, input_tokens int, output_tokens int, cache_read_tokens int, reasoning_tokens int, "
    "cost money, cache_savings money, cache_surcharge money, estimated_cost money, unpriced_calls int, "
    "seconds float"
)


def _table(text: str, *key: str, is_monthly: bool = True) -> TableColumns:
    return TableColumns(parse_columns(text), key or ("started_at", "run_id"), is_monthly)


TABLES: Mapping[str, TableColumns] = MappingProxyType(
    {
        "calls": _table(
            f"{_RUN}, parent_run_id uuid?, series int, node code, purpose code?, provider code, model code, "
            f"request_model code, operation code, {_OUTCOME}, retry code?, rate_limited bool, "
            f"time_to_first_token_seconds float?, streamed bool, streamed_tokens int, {_UNITS}, image_sizes json?, "
            "estimated bool, estimate_reason code?, unpriced_reason code?, cost_source code, estimator code?, "
            f"service_tier code?, from_cache bool, response_id text?, tags json, seconds_bucket int, {_SPAN}, "
            f"metadata json?, sdk_retries int?, {_ENCLOSING}"
        ),
        "ratings": _table(
            f"{_KEY}, computed_at time, price_version code, rates json?, currency code, list_cost money?, "
            "discount money?, contracted_cost money?, parts json, cache_savings money, cache_surcharge money, "
            "cost_bucket int?, margin money?, unpriced bool?",
            *("started_at", "run_id", "computed_at"),
        ),
        "node_runs": _table(
            f"{_RUN}, node code, step int?, parallel bool, {_OUTCOME}, {_TOTALS}, {_SPAN}, {_ENCLOSING}"
        ),
        "tool_calls": _table(f"{_RUN}, tool_name code, node code, {_OUTCOME}, {_SPAN}, {_ENCLOSING}"),
        "retriever_calls": _table(f"{_RUN}, retriever code, node code, {_OUTCOME}, {_SPAN}, {_ENCLOSING}"),
        "requests": _table(
            f"{_RUN}, {_OUTCOME}, resumed bool, provider code, model code, llm_calls int, tool_calls int, {_TOTALS}, "
            f"tags json, {_SPAN}"
        ),
        "feedback": _table(f"{_RUN}, node code, score_key code, score float", *("started_at", "run_id", "score_key")),
        # The labels of one series of calls, which the roll-ups are grouped by.
        "series": _table("id int, " + ", ".join(f"{name} code" for name in SERIES_DIMENSIONS), "id", is_monthly=False),
        # Hours with rows that their roll-up lacks; mark tells one batch from another.
        "changed_hours": _table("hour time, mark text", "hour", "mark", is_monthly=False),
        "rolled_hours": _table("hour time, build text, built_at time", "hour", "build", is_monthly=False),
        "hourly_calls": _table(
            f"hour time, series int, build text, {_SUMS}", *("hour", "series", "build"), is_monthly=False
        ),
        "hourly_histograms": _table(
            "hour time, series int, build text, measure code, bucket int, calls int",
            *("hour", "series", "build", "measure", "bucket"),
            is_monthly=False,
        ),
        "hourly_requests": _table(
            "hour time, tenant_id code, feature code, prompt_version code, agent_name code, path code, intent code, "
            "build text, requests int, successful int, seconds float",
            *("hour", "tenant_id", "feature", "prompt_version", "agent_name", "path", "intent", "build"),
            is_monthly=False,
        ),
    }
)
