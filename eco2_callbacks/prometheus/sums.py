"""Sums: what counters and histograms get between two readings, added up before prometheus-client takes it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial

from prometheus_client import Counter, Gauge, Histogram

from eco2_callbacks.pricing import EXACT
from eco2_callbacks.prometheus.snapshots import Pace

__all__ = ["Sums", "observe_all"]

# Observations that are kept one by one between two readings.
_MAX_OBSERVATIONS = 1024


class Sums:
    """Amounts by counter or gauge, and observations by histogram, not passed on to prometheus-client yet.

    Adding to a dictionary takes a tenth of ``Counter.inc``, which checks its labels and takes a lock. So a record adds
    here, and a reading passes the sums on first. Not safe for threads: its owner holds a lock.

    Attributes:
        counts: Whole numbers.
    """

    def __init__(self) -> None:
        self.counts: defaultdict[Counter | Gauge, int] = defaultdict(int)
        self._usd: defaultdict[Counter, Decimal] = defaultdict(Decimal)
        self._observed: defaultdict[Histogram, list[float]] = defaultdict(list)
        self._observations = 0

    def __bool__(self) -> bool:
        return bool(self.counts or self._usd or self._observed)

    @property
    def is_full(self) -> bool:
        """Whether to pass the sums on before the next reading."""
        return self._observations >= _MAX_OBSERVATIONS

    def observe(self, histogram: Histogram, amount: float, exemplar: Mapping[str, str] | None = None) -> None:
        """Add one observation; one with an exemplar is passed on at once."""
        if exemplar is None:
            self._observed[histogram].append(amount)
            self._observations += 1
        else:
            histogram.observe(amount, dict(exemplar))

    def add_usd(self, counter: Counter, usd: Decimal) -> None:
        """Add US dollars, exactly: only the counter rounds."""
        self._usd[counter] = EXACT.add(self._usd[counter], usd)

    def pass_on(self, guarded: Callable[[Callable[[], None]], None], pace: Pace) -> None:
        """Move the counters, gauges and histograms, and start again at 0.

        Args:
            guarded: Calls what moves one of them, and reports what it raises.
            pace: Pauses in between.
        """
        counts, usd, observed = self.counts.copy(), self._usd.copy(), self._observed.copy()
        self.clear()
        for counter, count in counts.items():
            guarded(partial(counter.inc, count))
            pace.add(1)
        for counter, dollars in usd.items():
            guarded(partial(counter.inc, float(dollars)))
            pace.add(1)
        for histogram, amounts in observed.items():
            guarded(partial(observe_all, histogram, amounts))
            pace.add(len(amounts))

    def clear(self) -> None:
        """Forget the sums, as in a forked child: the parent passes them on."""
        self.counts.clear()
        self._usd.clear()
        self._observed.clear()
        self._observations = 0


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Observe many amounts at once on a child with all its labels, without exemplars.

    prometheus-client has no public way to do this, and single observations would cost more than the rest of a stream.
    This reads its private fields (tested with 0.20 to 0.26) and falls back to single observations.
    """
    try:
        bounds, buckets, total = histogram._upper_bounds, histogram._buckets, histogram._sum
        places = Tally(bisect_left(bounds, amount) for amount in amounts)
    except (AttributeError, TypeError):
        for amount in amounts:
            histogram.observe(amount)
        return
    for place, times in places.items():
        buckets[place].inc(times)
    total.inc(sum(amounts))
