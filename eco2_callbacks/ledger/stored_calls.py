"""StoredCalls: the calls of a period with all their ratings, part by part, for pricing them again and for exports."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import period_of
from eco2_callbacks.ledger.unpriced import is_unpriced
from eco2_callbacks.usage import TokenUsage

__all__ = ["StoredCall", "StoredRating", "read_calls", "rerated_days"]

# So many are in memory at once, about 3 kB each.
_CALLS_AT_ONCE = 10_000
_MICROSECOND = timedelta(microseconds=1)
_UNITS = tuple(name for name in TokenUsage.__struct_fields__ if name != "image_sizes")
_LABELS = (
    *("run_id", "trace_id", "tenant_id", "user_id", "session_id", "feature", "prompt_version", "agent_name", "intent"),
    *("node", "provider", "model", "request_model", "operation", "status", "service_tier", "response_id"),
    *("unpriced_reason", "cost_source", "estimated", "from_cache", "duration_seconds", "retry", "sdk_retries"),
)
_AMOUNTS = ("list_cost", "contracted_cost", "margin", "cache_savings", "cache_surcharge")


@dataclass(frozen=True, slots=True)
class StoredRating:
    """One rating of a call; dollars are exact.

    Attributes:
        usd: Contracted prices by price key.
        list_usd: Public prices by price key, where they differ.
        context: What chose among the model's prices; None where an older version did not keep it.
        model: The name that the prices were found under; likewise.
        samplings: As ``RatesUsed``.
        window: As ``RatesUsed``.
        other_models: As ``RatesUsed``.
        list_cost: None where no public price is known.
        contracted_cost: What is paid; None where only a list cost is known.
        margin: What is charged on top.
        is_unpriced: Whether the cost leaves out a unit or a tier that has no rate; None where an older version did not
            keep it.
    """

    computed_at: datetime
    price_version: str
    usd: Mapping[str, Decimal]
    list_usd: Mapping[str, Decimal]
    context: Mapping[str, str] | None
    model: str | None
    samplings: int
    window: int | None
    other_models: tuple[str, ...]
    list_cost: Decimal | None
    contracted_cost: Decimal | None
    margin: Decimal
    cache_savings: Decimal
    cache_surcharge: Decimal
    is_unpriced: bool | None


@dataclass(frozen=True, slots=True)
class StoredCall:
    """One call as the ledger holds it, with its ratings from the first to the newest.

    Attributes:
        labels: Its columns by name: ids, provider, model, who spent it.
        usage: None where it is unknown.
    """

    started_at: datetime
    run_id: str
    tenant_id: str
    provider: str
    model: str
    usage: TokenUsage | None
    ratings: tuple[StoredRating, ...] = ()
    labels: Mapping[str, Any] = field(default_factory=dict)

    @property
    def newest(self) -> StoredRating | None:
        """The rating that holds, None without one."""
        return self.ratings[-1] if self.ratings else None

    @property
    def own(self) -> StoredRating | None:
        """The rating that came with the call, None where it had no price then."""
        first = self.ratings[0] if self.ratings else None
        ended_at = self.started_at + timedelta(microseconds=round(self.labels["duration_seconds"] * 1e6))
        return first if first is not None and first.computed_at <= ended_at else None

    def is_unpriced(self, rating: StoredRating | None) -> bool:
        """Return whether dollars of the call are missing by one of its ratings, or without one."""
        return is_unpriced(
            self.labels["unpriced_reason"],
            has_cost=rating is not None and rating.contracted_cost is not None,
            leaves_out=None if rating is None else rating.is_unpriced,
        )


def read_calls(backend: Backend, since: datetime, until: datetime) -> Iterator[tuple[float, list[StoredCall]]]:
    """Yield the calls of a period in the order of their start, some at once, each time with the share that is done.

    Raises:
        LedgerError: If there is no ledger.
    """
    Schema(backend).require()
    calls = table("calls")
    inside = sa.and_(calls.c.started_at >= since, calls.c.started_at < until)
    done = 0
    with backend.engine().connect() as connection:
        count, first = connection.execute(
            sa.select(sa.func.count(), sa.func.min(calls.c.started_at)).where(inside)
        ).one()
        begin: datetime | None = first if count else None
        while begin is not None:
            following = _start_after(connection, begin, until)
            found = _read(connection, begin, until if following is None else following)
            done += len(found)
            # Calls that came meanwhile are read too.
            yield min(1.0, done / count), found
            begin = following


def _start_after(connection: Any, begin: datetime, until: datetime) -> datetime | None:
    """Return the start of the first call that is too many to be read with those from a moment on."""
    started = table("calls").c.started_at

    def at(number: int, since: datetime) -> datetime | None:
        found: datetime | None = connection.execute(
            sa.select(started).where(started >= since, started < until).order_by(started).limit(1).offset(number)
        ).scalar()
        return found

    following = at(_CALLS_AT_ONCE, begin)
    # Calls of one microsecond are read together.
    return at(0, begin + _MICROSECOND) if following == begin else following


def rerated_days(backend: Backend, since: datetime, until: datetime, *, before: datetime) -> list[datetime]:
    """Return the days (UTC) of calls from before a moment that were rated in a period."""
    ratings = table("ratings")
    day = period_of(ratings.c.started_at, sa.literal("day"), sa.literal("UTC")).label("of_day")
    query = (
        sa.select(day)
        .where(ratings.c.computed_at >= since, ratings.c.computed_at < until, ratings.c.started_at < before)
        .group_by(day)
    )
    with backend.engine().connect() as connection:
        found = connection.execute(query).scalars()
        return sorted(datetime.fromisoformat(str(text)).replace(tzinfo=UTC) for text in found)


def _read(connection: Any, since: datetime, until: datetime) -> list[StoredCall]:
    calls, ratings = table("calls"), table("ratings")
    rated: dict[tuple[datetime, str], list[StoredRating]] = {}
    names = ("started_at", "run_id", "computed_at", "price_version", "rates", *_AMOUNTS, "unpriced")
    rows = connection.execute(
        sa.select(*(ratings.c[name] for name in names))
        .where(ratings.c.started_at >= since, ratings.c.started_at < until)
        .order_by(ratings.c.computed_at)
    )
    for started_at, run_id, computed_at, version, rates, listed, paid, margin, savings, surcharge, unpriced in rows:
        prices = _json(rates) or {}
        rated.setdefault((started_at, str(run_id)), []).append(
            StoredRating(
                computed_at,
                version,
                _decimals(prices.get("usd")),
                _decimals(prices.get("list_usd")),
                prices.get("context"),
                prices.get("model") or None,
                prices.get("samplings", 1),
                prices.get("window"),
                tuple(prices.get("other_models", ())),
                listed,
                paid,
                margin if margin is not None else Decimal(0),
                savings,
                surcharge,
                unpriced,
            )
        )
    columns = [calls.c[name] for name in ("started_at", *_LABELS, *_UNITS, "image_sizes")]
    found = []
    for row in connection.execute(
        sa.select(*columns)
        .where(calls.c.started_at >= since, calls.c.started_at < until)
        .order_by(calls.c.started_at, calls.c.run_id)
    ):
        values = row._mapping
        run_id = str(values["run_id"])
        found.append(
            StoredCall(
                values["started_at"].astimezone(UTC),
                run_id,
                values["tenant_id"],
                values["provider"],
                values["model"],
                _usage(values),
                tuple(rated.get((values["started_at"], run_id), ())),
                {name: values[name] for name in _LABELS},
            )
        )
    return found


def _usage(values: Mapping[Any, Any]) -> TokenUsage | None:
    if values["input_tokens"] is None:
        return None
    units = {name: int(values[name] or 0) for name in _UNITS}
    return TokenUsage(**units, image_sizes=tuple(_json(values["image_sizes"]) or ()))


def _json(stored: Any) -> Any:
    return json.loads(stored) if isinstance(stored, str) else stored


def _decimals(prices: Mapping[str, str] | None) -> Mapping[str, Decimal]:
    return {key: Decimal(price) for key, price in (prices or {}).items()}
