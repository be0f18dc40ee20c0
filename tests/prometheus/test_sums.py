"""Sums: what counters and histograms get between two readings."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from eco2_callbacks.prometheus.snapshots import Pace
from eco2_callbacks.prometheus.sums import Sums


def _at_once(move: Callable[[], None]) -> None:
    move()


def test_sums_reach_the_registry_once(registry: CollectorRegistry) -> None:
    """A second reading adds nothing to what the first one has passed on."""
    counter = Counter("calls", "Calls.", registry=registry)
    gauge = Gauge("open", "Open.", registry=registry)
    histogram = Histogram("seconds", "Seconds.", registry=registry, buckets=(1.0, 2.0))
    sums = Sums()
    sums.counts[counter] += 2
    sums.counts[gauge] -= 1
    sums.observe(histogram, 1.0)
    sums.observe(histogram, 3.0)

    assert sums
    sums.pass_on(_at_once, Pace())
    assert not sums
    sums.pass_on(_at_once, Pace())

    assert registry.get_sample_value("calls_total") == 2
    assert registry.get_sample_value("open") == -1
    assert registry.get_sample_value("seconds_bucket", {"le": "1.0"}) == 1
    assert registry.get_sample_value("seconds_bucket", {"le": "2.0"}) == 1
    assert registry.get_sample_value("seconds_count") == 2
    assert registry.get_sample_value("seconds_sum") == 4


def test_dollars_are_added_before_they_are_rounded(registry: CollectorRegistry) -> None:
    """Ten times 0.1 USD is 1 USD; floats would give 0.9999999999999999."""
    counter = Counter("usd", "Dollars.", registry=registry)
    sums = Sums()
    for _ in range(10):
        sums.add_usd(counter, Decimal("0.1"))

    sums.pass_on(_at_once, Pace())

    assert registry.get_sample_value("usd_total") == 1.0


def test_a_counter_that_raises_stops_no_other(registry: CollectorRegistry) -> None:
    """A counter cannot fall: what it raises is reported, and the counters behind it move."""
    first, second = (Counter(name, "Calls.", registry=registry) for name in ("first", "second"))
    sums, raised = Sums(), list[Exception]()

    def guarded(move: Callable[[], None]) -> None:
        try:
            move()
        except Exception as error:
            raised.append(error)

    sums.counts[first] -= 1
    sums.counts[second] += 1
    sums.pass_on(guarded, Pace())

    assert len(raised) == 1
    assert registry.get_sample_value("second_total") == 1


def test_observations_are_not_kept_without_end(registry: CollectorRegistry) -> None:
    """Without a reading, the sums are full after 1,024 observations."""
    histogram = Histogram("seconds", "Seconds.", registry=registry)
    sums = Sums()
    for _ in range(1023):
        sums.observe(histogram, 0.5)
    assert not sums.is_full

    sums.observe(histogram, 0.5)

    assert sums.is_full
    sums.pass_on(_at_once, Pace())
    assert not sums.is_full
