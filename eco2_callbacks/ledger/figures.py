"""Figures: sums and percentiles of a group of calls, which can be added up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from eco2_callbacks.ledger.cells import BUCKET_BASE, ZERO_BUCKET
from eco2_callbacks.pricing import EXACT

__all__ = ["SUMS", "Figures", "percentile"]

_ZERO = Decimal(0)
# In the order of the columns of hourly_calls.
SUMS = (
    *("calls", "errors", "input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens", "cost"),
    *("cache_savings", "cache_surcharge", "estimated_cost", "unpriced_calls", "seconds"),
)


@dataclass(slots=True)
class Figures:
    """What a group of calls consumed and cost; dollars are exact.

    Attributes:
        cost: USD, newest ratings; leaves out ``unpriced_calls``.
        estimated_cost: The share of the cost that rests on an estimate.
        cost_buckets: Number of calls by bucket of their cost.
        seconds_buckets: Number of calls by bucket of their duration.
        successful_requests: Requests that ended well, of the group's period, tenant, user, session, intent, feature,
            prompt version and tag; the group's other dimensions do not narrow them.
    """

    calls: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal = _ZERO
    cache_savings: Decimal = _ZERO
    cache_surcharge: Decimal = _ZERO
    estimated_cost: Decimal = _ZERO
    unpriced_calls: int = 0
    seconds: float = 0.0
    cost_buckets: Counter[int] = field(default_factory=Counter)
    seconds_buckets: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    successful_requests: int = 0

    def add(self, sums: Mapping[str, object]) -> None:
        """Add sums by name."""
        for name, amount in sums.items():
            if amount is None:
                continue  # the sum of no rows
            present = getattr(self, name)
            if isinstance(present, Decimal):
                setattr(self, name, EXACT.add(present, Decimal(str(amount))))
            else:
                setattr(self, name, present + type(present)(amount))

    def add_group(self, other: Figures) -> None:
        """Add the figures of other calls, their requests excepted: one request can have calls in both groups."""
        self.add({name: getattr(other, name) for name in SUMS})
        self.cost_buckets.update(other.cost_buckets)
        self.seconds_buckets.update(other.seconds_buckets)

    @property
    def cached_share(self) -> float | None:
        """Share of the input tokens that came from the provider's cache, None without input."""
        return self.cache_read_tokens / self.input_tokens if self.input_tokens else None

    @property
    def cost_per_successful_request(self) -> Decimal | None:
        """The group's cost for each request that ended well, None without such requests."""
        return EXACT.divide(self.cost, Decimal(self.successful_requests)) if self.successful_requests else None


def percentile(buckets: Mapping[int, int], share: float) -> float | None:
    """Return the value below which this share of the calls lies, right to 2.5 %; None without calls."""
    total = sum(buckets.values())
    if not total:
        return None
    rank, seen = share * (total - 1), 0
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        if seen > rank:
            return 0.0 if bucket == ZERO_BUCKET else float(BUCKET_BASE**bucket)
    return None
