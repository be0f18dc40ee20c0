"""Compares variants of a prompt, a model or any other key, with confidence intervals and what they allow to say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, TypeAlias

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger import Backend, Moments, Period, Variant, percentile, read_variants

__all__ = ["MIN_SAMPLE", "ComparedVariant", "Estimate", "VariantComparison", "compare_variants"]

Verdict: TypeAlias = Literal["higher", "lower", "no difference shown", "too thin to say", ""]
# Below it the mean of such skewed quantities is not yet normally distributed.
MIN_SAMPLE = 30
# Share of a mean that the rounding of sums can be: equal amounts differ by no more.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Estimate:
    """One figure of a variant.

    Attributes:
        number: Sample size.
        value: The estimate; None without a sample.
        low: Lower end of its confidence interval; None where it is not known.
        high: Upper end.
        difference: Against the baseline's figure.
        difference_low: Lower end of the difference's confidence interval.
        difference_high: Upper end.
        verdict: What that says; ``""`` for the baseline, and for figures that are not compared.
    """

    number: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    verdict: Verdict = ""


@dataclass(slots=True)
class ComparedVariant:
    """One variant.

    Attributes:
        unpriced_calls: Calls that ``dollars`` leave out.
        estimated_usd: What of the sum of its dollars rests on an estimate.
        estimates: ``tokens``, ``dollars``, ``seconds`` (means of a call), ``errors`` (share of the calls),
            ``seconds_p50``, ``seconds_p95``, and ``feedback:<key>``.
    """

    value: str
    calls: int
    unpriced_calls: int
    estimated_usd: Decimal
    is_baseline: bool
    estimates: dict[str, Estimate] = field(default_factory=dict)


@dataclass(slots=True)
class VariantComparison:
    """All variants of a key; the baseline first."""

    key: str
    period: Period
    confidence: float
    variants: list[ComparedVariant]


def compare_variants(
    backend: Backend, key: str, period: Period, *, baseline: str | None = None, confidence: float = 0.95
) -> VariantComparison:
    """Return the variants of a key with confidence intervals, each against a baseline.

    Args:
        backend: The ledger's backend.
        key: One of ``VARIANT_KEYS``.
        period: The period.
        baseline: A value of the key; None is the one with the most calls.
        confidence: Confidence of each interval.

    Raises:
        ConfigError: If the key or the baseline is unknown, or the confidence is not between 0.5 and 1.
        LedgerError: If there is no ledger, it has no calls in the period, or the extra is not installed.
    """
    if not 0.5 <= confidence < 1:
        raise ConfigError(f"--confidence is {confidence!r}, wanted a number from 0.5 to below 1, such as 0.95.")
    stats = _stats()
    variants = read_variants(backend, key, period)
    if baseline is not None:
        known = [variant.value for variant in variants]
        if baseline not in known:
            raise ConfigError(f"--baseline is {baseline!r}, wanted one of {', '.join(map(repr, known[:20]))}.")
        variants.sort(key=lambda variant: variant.value != baseline)
    judge = _Judge(stats, confidence)
    first = variants[0]
    compared = [
        ComparedVariant(
            variant.value,
            variant.calls,
            variant.unpriced_calls,
            variant.estimated_usd,
            variant is first,
            judge.estimates(variant, None if variant is first else first),
        )
        for variant in variants
    ]
    return VariantComparison(key, period, confidence, compared)


class _Judge:
    """Computes estimates and verdicts."""

    def __init__(self, stats: Any, confidence: float) -> None:
        self._stats = stats
        self._confidence = confidence
        self._tail = (1 + confidence) / 2

    def estimates(self, variant: Variant, baseline: Variant | None) -> dict[str, Estimate]:
        """Return the figures of a variant, against the baseline unless it is it."""
        found = {
            name: self._mean(getattr(variant, name), None if baseline is None else getattr(baseline, name))
            for name in ("tokens", "dollars", "seconds")
        }
        found["errors"] = self._share(
            variant.errors, variant.calls, None if baseline is None else (baseline.errors, baseline.calls)
        )
        for share in (0.5, 0.95):
            found[f"seconds_p{round(share * 100)}"] = self._percentile(variant.seconds_buckets, share)
        for key in sorted({*variant.feedback, *(baseline.feedback if baseline is not None else ())}):
            found[f"feedback:{key}"] = self._mean(
                variant.feedback.get(key, Moments()),
                None if baseline is None else baseline.feedback.get(key, Moments()),
            )
        return found

    def _mean(self, sample: Moments, other: Moments | None) -> Estimate:
        """Return a mean with Student's interval, and its difference with Welch's."""
        number = sample.number
        if not number:
            return Estimate(0, verdict="" if other is None else "too thin to say")
        mean = sample.total / number
        low = high = None
        if number > 1:
            half = float(self._stats.t.ppf(self._tail, number - 1)) * math.sqrt(_variance(sample) / number)
            low, high = mean - half, mean + half
        if other is None:
            return Estimate(number, mean, low, high)
        if min(number, other.number) < MIN_SAMPLE:
            return Estimate(number, mean, low, high, verdict="too thin to say")
        mine, theirs = _variance(sample) / number, _variance(other) / other.number
        base = other.total / other.number
        difference, error = mean - base, math.sqrt(mine + theirs)
        if abs(difference) <= _ROUNDING * max(abs(mean), abs(base)):
            difference = 0.0
        half = 0.0
        if error > 0:
            freedom = (mine + theirs) ** 2 / (mine**2 / (number - 1) + theirs**2 / (other.number - 1))
            half = float(self._stats.t.ppf(self._tail, freedom)) * error
        return _judged(number, mean, low, high, difference, half, half)

    def _share(self, count: int, number: int, other: tuple[int, int] | None) -> Estimate:
        """Return a share with Wilson's interval, and its difference with Newcombe's."""
        if not number:
            return Estimate(0, verdict="" if other is None else "too thin to say")
        share, low, high = self._wilson(count, number)
        if other is None:
            return Estimate(number, share, low, high)
        if min(number, other[1]) < MIN_SAMPLE:
            return Estimate(number, share, low, high, verdict="too thin to say")
        base, base_low, base_high = self._wilson(*other)
        below = math.hypot(share - low, base_high - base)
        above = math.hypot(high - share, base - base_low)
        return _judged(number, share, low, high, share - base, below, above)

    def _wilson(self, count: int, number: int) -> tuple[float, float, float]:
        interval = self._stats.binomtest(count, number).proportion_ci(self._confidence, method="wilson")
        return count / number, float(interval.low), float(interval.high)

    def _percentile(self, buckets: Mapping[int, int], share: float) -> Estimate:
        """Return a percentile with the interval of its order statistics."""
        number = sum(buckets.values())
        value = percentile(buckets, share)
        if value is None or number < MIN_SAMPLE:
            return Estimate(number, value)
        low_rank = float(self._stats.binom.ppf(1 - self._tail, number, share))
        high_rank = float(self._stats.binom.ppf(self._tail, number, share))
        low, high = (percentile(buckets, min(1.0, rank / (number - 1))) for rank in (low_rank, high_rank))
        return Estimate(number, value, low, high)


def _judged(
    number: int, value: float, low: float | None, high: float | None, difference: float, below: float, above: float
) -> Estimate:
    least, most = difference - below, difference + above
    verdict: Verdict = "higher" if least > 0 else "lower" if most < 0 else "no difference shown"
    return Estimate(number, value, low, high, difference, least, most, verdict)


def _variance(sample: Moments) -> float:
    mean = sample.total / sample.number
    # Rounding can leave a little below zero.
    return max(0.0, (sample.squares - sample.number * mean * mean) / (sample.number - 1)) if sample.number > 1 else 0.0


def _stats() -> Any:
    try:
        from scipy import stats  # noqa: PLC0415  an extra
    except ImportError as error:
        raise LedgerError("eco2 compare needs the extra 'stats': pip install 'eco2-callbacks[stats]'.") from error
    return stats
