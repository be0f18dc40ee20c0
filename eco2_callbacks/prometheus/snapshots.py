"""Reads all samples of a family at one moment, and hands them out with pauses in which other threads can run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

__all__ = ["Pace", "pause", "snapshot"]

# A sleep of 0 can return before a waiting thread has woken up.
_PAUSE_SECONDS = 5e-5
# Samples that are read, or formatted by whoever reads, before a pause: about 1 ms.
_SAMPLES_BEFORE_PAUSE = 256
_STEP = 32


def pause() -> None:
    """Let other threads run: one that works without a pause stops an event loop for the interpreter's 5 ms."""
    time.sleep(_PAUSE_SECONDS)


class Pace:
    """Pauses after every 256 samples of one scrape, whatever family they belong to."""

    def __init__(self) -> None:
        self._samples = 0

    def add(self, samples: int) -> None:
        """Note samples that were read or formatted."""
        self._samples += samples
        if self._samples >= _SAMPLES_BEFORE_PAUSE:
            self._samples = 0
            pause()


class _PacedSamples(list[Sample]):
    """The samples of a family; who formats them pauses now and then."""

    def __init__(self, samples: Iterable[Sample], pace: Pace) -> None:
        super().__init__(samples)
        self._pace = pace

    def __iter__(self) -> Iterator[Sample]:
        # A step at a time: a call for each sample would take a tenth of the time of its formatting.
        for start in range(0, len(self), _STEP):
            step = self[start : start + _STEP]
            yield from step
            self._pace.add(len(step))


def snapshot(family: MetricWrapperBase, pace: Pace) -> Metric:
    """Return a family with the samples of all its children, without those of their creation times.

    prometheus-client's own ``collect`` takes four times as long, most of it for samples ``_created``, which no query
    reads; its switch for them is one for the process. So this reads its private fields (tested with 0.20 to 0.26), and
    falls back to ``collect`` where they differ.
    """
    (metric,) = family.describe()
    try:
        samples = _PacedSamples(_samples(family, metric.name, pace), pace)
    except (AttributeError, TypeError, ValueError):
        (metric,) = family.collect()
        kept = (sample for sample in metric.samples if not sample.name.endswith("_created"))
        samples = _PacedSamples(kept, pace)
    metric.samples = samples
    return metric


def _samples(family: Any, name: str, pace: Pace) -> Iterator[Sample]:
    names = family._labelnames
    # The class's own constructor is Python code, and takes as long as everything else here.
    new, rest = partial(tuple.__new__, Sample), (None,) * (len(Sample._fields) - 5)
    children = list(family._metrics.items()) if names else [((), family)]
    if isinstance(family, Counter):
        name = f"{name}_total"
        for values, child in children:
            value = child._value
            labels = dict(zip(names, values, strict=True))
            yield new((name, labels, value._value, None, value._exemplar, *rest))
        pace.add(len(children))
    elif isinstance(family, Gauge):
        for values, child in children:
            yield Sample(name, dict(zip(names, values, strict=True)), child._value._value)
        pace.add(len(children))
    elif isinstance(family, Histogram):
        bounds = [floatToGoString(bound) for bound in family._upper_bounds]  # type: ignore[no-untyped-call]
        bucket_name, count_name, sum_name = f"{name}_bucket", f"{name}_count", f"{name}_sum"
        for values, child in children:
            labels = dict(zip(names, values, strict=True))
            count = 0.0
            for bound, bucket in zip(bounds, child._buckets, strict=True):
                count += bucket._value
                yield new((bucket_name, {**labels, "le": bound}, count, None, bucket._exemplar, *rest))
            yield Sample(count_name, labels, count)
            yield Sample(sum_name, labels, child._sum._value)
            pace.add(len(bounds))
    else:
        raise TypeError(f"unknown family {family!r}")
