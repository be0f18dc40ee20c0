"""Variants: sums and squares of calls by one of their columns, from which statistics are computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.rollups import rated_calls, sums_of
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import as_float
from eco2_callbacks.ledger.unpriced import is_unpriced_in_sql

__all__ = ["VARIANT_KEYS", "Moments", "Variant", "read_variants"]

# Key -> column of the calls.
VARIANT_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "prompt_version": "prompt_version",
        "model": "model",
        "provider": "provider",
        "feature": "feature",
        "intent": "intent",
        "agent": "agent_name",
        "node": "node",
        "path": "path",
        "purpose": "purpose",
        "tenant": "tenant_id",
        "user": "user_id",
        "session": "session_id",
        "service_tier": "service_tier",
    }
)


@dataclass(slots=True)
class Moments:
    """Number, sum and sum of squares of a quantity."""

    number: int = 0
    total: float = 0.0
    squares: float = 0.0


@dataclass(slots=True)
class Variant:
    """The calls of one value of a key. Answers from LangChain's cache are left out.

    Attributes:
        tokens: Input and output of a call; calls without usage are left out.
        dollars: Newest ratings; calls without a price are left out.
        estimated_usd: What of their sum rests on an estimate.
        seconds: Of a call that ended well.
        seconds_buckets: Their number by bucket.
        feedback: Scores by key, where they have this column.
    """

    value: str
    calls: int = 0
    errors: int = 0
    unpriced_calls: int = 0
    estimated_usd: Decimal = Decimal(0)
    tokens: Moments = field(default_factory=Moments)
    dollars: Moments = field(default_factory=Moments)
    seconds: Moments = field(default_factory=Moments)
    seconds_buckets: Counter[int] = field(default_factory=Counter)
    feedback: dict[str, Moments] = field(default_factory=dict)


def read_variants(backend: Backend, key: str, period: Period) -> list[Variant]:
    """Return the variants of a key in a period, those with the most calls first.

    Raises:
        ConfigError: If the key is unknown.
        LedgerError: If there is no ledger, or it has no calls in the period.
    """
    name = VARIANT_KEYS.get(key.replace("-", "_"))
    if name is None:
        raise ConfigError(f"The key is {key!r}, wanted one of {', '.join(VARIANT_KEYS)}.")
    Schema(backend).require()
    called, rated, joined = rated_calls(period.since, period.until)
    asked = sa.not_(sa.type_coerce(called.c.from_cache, sa.Boolean()))
    well = sa.and_(asked, called.c.status == "success")
    # Joined to the window's ratings, whose cost is money in both.
    usd = as_float(sa.type_coerce(rated.c.contracted_cost, table("ratings").c.contracted_cost.type))
    tokens = as_float(called.c.input_tokens) + as_float(called.c.output_tokens)
    seconds = as_float(sa.case((called.c.status == "success", called.c.duration_seconds)))
    value = called.c[name]
    found: dict[str, Variant] = {}
    with backend.engine().connect() as connection:
        query = (
            sa.select(
                value.label("of_value"),
                sa.func.count().label("n_calls"),
                _count(called.c.status == "error").label("n_errors"),
                _count(is_unpriced_in_sql(called, rated)).label("n_unpriced"),
                next(column for column in sums_of(called, rated) if column.name == "sum_estimated_cost"),
                *_moments(tokens, "tokens"),
                *_moments(usd, "usd"),
                *_moments(seconds, "seconds"),
            )
            .select_from(joined)
            .where(asked)
            .group_by(value)
        )
        for label, calls, errors, unpriced, estimated, *sums in connection.execute(query):
            text = "" if label is None else str(label)
            # NULL and "" are one variant.
            variant = found.setdefault(text, Variant(text))
            variant.calls += int(calls)
            variant.errors += int(errors)
            variant.unpriced_calls += int(unpriced)
            variant.estimated_usd += Decimal(str(estimated or 0))
            for moments, at in ((variant.tokens, 0), (variant.dollars, 3), (variant.seconds, 6)):
                _add(moments, sums[at : at + 3])
        buckets = sa.select(value.label("of_value"), called.c.seconds_bucket, sa.func.count().label("n_calls"))
        for label, bucket, calls in connection.execute(buckets.where(well).group_by(value, called.c.seconds_bucket)):
            found["" if label is None else str(label)].seconds_buckets[int(bucket)] += int(calls)
        _read_feedback(connection, name, period, found)
    if not found:
        raise LedgerError(
            f"The ledger {backend.shown_url} has no calls from {period.since.isoformat(timespec='seconds')} to "
            f"{period.until.isoformat(timespec='seconds')}. Choose --since and --until to match."
        )
    return sorted(found.values(), key=lambda variant: (-variant.calls, variant.value))


def _read_feedback(connection: Any, name: str, period: Period, found: dict[str, Variant]) -> None:
    feedback = table("feedback")
    if name not in feedback.c:
        return
    query = (
        sa.select(
            feedback.c[name].label("of_value"), feedback.c.score_key, *_moments(as_float(feedback.c.score), "score")
        )
        .where(feedback.c.started_at >= period.since, feedback.c.started_at < period.until)
        .group_by(feedback.c[name], feedback.c.score_key)
    )
    for label, key, *sums in connection.execute(query):
        variant = found.get("" if label is None else str(label))
        if variant is not None:
            _add(variant.feedback.setdefault(key, Moments()), sums)


def _moments(quantity: Any, name: str) -> list[Any]:
    return [
        sa.func.count(quantity).label(f"n_{name}"),
        sa.func.sum(quantity).label(f"sum_{name}"),
        sa.func.sum(quantity * quantity).label(f"squares_{name}"),
    ]


def _count(condition: Any) -> Any:
    return sa.func.sum(sa.case((condition, sa.literal(1)), else_=sa.literal(0)))


def _add(moments: Moments, sums: Any) -> None:
    number, total, squares = sums
    moments.number += int(number or 0)
    moments.total += float(total or 0.0)
    moments.squares += float(squares or 0.0)
