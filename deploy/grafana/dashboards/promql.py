"""PromQL of the panels: selectors that follow the dashboard's variables, and figures that are 0 before anything ran."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from eco2_callbacks.families import FAMILIES, Family

__all__ = [
    "NONE",
    "VARIABLES",
    "gauge",
    "last_hour",
    "mean",
    "or_zero",
    "per_hour",
    "per_minute",
    "per_second",
    "quantile",
    "quantile_ranking",
    "range_mean",
    "range_quantile",
    "range_share",
    "ranking",
    "selector",
    "share",
    "share_ranking",
    "sorted_desc",
    "total",
]

NONE: Final = "none"
"""What a label says in the series that stands for all others while there is none."""

VARIABLES: Final = {"node": "node", "subagent": "node", "intent": "intent", "model": "model", "tenant_id": "tenant"}
"""The dashboard variable that a label follows."""

_FAMILIES: Final = {family.name: family for family in FAMILIES}
# What stands for an empty value, which would be a series without a name.
_UNNAMED: Final = {"tenant_id": "no tenant", "agent_name": "no name"}
_ANY: Final[Mapping[str, str]] = MappingProxyType({})
_RECENTLY: Final = "$__rate_interval"
_IN_RANGE: Final = "$__range"


def selector(name: str, **matchers: str) -> str:
    """Return the selector of a metric: these labels, and every label that a variable of the dashboard narrows.

    Args:
        name: The sample's name; a histogram's with ``_bucket``, ``_sum`` or ``_count``.
        matchers: Labels with the value they must have, or a regular expression if it holds a ``|``.
    """
    labels = _family(name).labels
    if unknown := set(matchers) - {*labels, "le"}:
        raise ValueError(f"{name} has no label {', '.join(sorted(unknown))}, only {', '.join(labels)}.")
    fixed = [f'{label}{"=~" if "|" in value else "="}"{value}"' for label, value in matchers.items()]
    free = [f'{label}=~"${VARIABLES[label]}"' for label in labels if label in VARIABLES and label not in matchers]
    return f"{name}{{{','.join(fixed + free)}}}" if fixed + free else name


def or_zero(expression: str, *by: str) -> str:
    """Return an expression that is 0, under the name ``none``, where the given one has no series at all."""
    zero = "vector(0)"
    for label in by:
        zero = f'label_replace({zero}, "{label}", "{NONE}", "", "")'
        if label in _UNNAMED:
            expression = f'label_replace({expression}, "{label}", "{_UNNAMED[label]}", "{label}", "")'
    return f"{expression} or on() {zero}"


def gauge(name: str, *by: str) -> str:
    """Return a gauge's value, summed over the processes."""
    return or_zero(_sum(selector(name), by), *by)


def per_second(name: str, *by: str, only_nonzero: bool = False, **matchers: str) -> str:
    """Return how fast a counter grows; with ``used`` only where it ever did."""
    return or_zero(f"{_rate(name, by, matchers)}{_ever(name, by, matchers) if only_nonzero else ''}", *by)


def per_minute(name: str, *by: str, only_nonzero: bool = False, **matchers: str) -> str:
    """Return how often a minute something happens, the first time included; with ``used`` only where it ever did."""
    ever = _ever(name, by, matchers) if only_nonzero else ""
    return or_zero(f"{_growth(name, by, _RECENTLY, matchers)} * 60000 / $__rate_interval_ms{ever}", *by)


def per_hour(name: str, *by: str, **matchers: str) -> str:
    """Return how much an hour a counter grows by; the area below is what it grew by."""
    return or_zero(f"{_growth(name, by, _RECENTLY, matchers)} * 3600000 / $__rate_interval_ms", *by)


def total(name: str, *by: str, **matchers: str) -> str:
    """Return by how much a counter grew in the dashboard's range."""
    return or_zero(_growth(name, by, _IN_RANGE, matchers), *by)


def last_hour(name: str, *, ago: str = "") -> str:
    """Return by how much a counter grew in the hour before each moment, or so long ``ago``."""
    return or_zero(_growth(name, (), "1h", _ANY, ago))


def ranking(name: str, *by: str, limit: int = 0) -> str:
    """Return by how much a counter grew in the dashboard's range, the largest first, without those that did not.

    Args:
        name: The counter.
        by: Labels to keep.
        limit: How many; 0 is all.
    """
    return _sorted(or_zero(f"{_growth(name, by, _IN_RANGE, _ANY)} > 0", *by), limit)


def share_ranking(name: str, *by: str, limit: int = 0, **matchers: str) -> str:
    """Return which share of a counter's growth in the dashboard's range these labels have, in the same order."""
    part, whole = _growth(name, by, _IN_RANGE, matchers), _growth(name, by, _IN_RANGE, _ANY)
    return _sorted(or_zero(f"{_quotient(part, whole)} > 0", *by), limit)


def quantile_ranking(q: float, name: str, *by: str, limit: int = 0) -> str:
    """Return a quantile of what a histogram observed in the dashboard's range, the largest first."""
    return _sorted(range_quantile(q, name, *by), limit)


def sorted_desc(expression: str) -> str:
    """Return the series of an instant, the largest first."""
    return _sorted(expression, 0)


def share(name: str, *by: str, of_all: str = "", among: Mapping[str, str] = _ANY, **matchers: str) -> str:
    """Return which share of a counter's growth these labels have, 0 while it does not grow.

    Args:
        name: The counter.
        by: Labels to keep.
        of_all: Another counter to be a share of.
        among: Labels that the whole has.
        matchers: Labels that the part has.
    """
    return or_zero(_quotient(_rate(name, by, matchers), _rate(of_all or name, by, among)), *by)


def range_share(name: str, *by: str, of_all: str = "", among: Mapping[str, str] = _ANY, **matchers: str) -> str:
    """Return the same of the growth in the dashboard's range."""
    part, whole = _growth(name, by, _IN_RANGE, matchers), _growth(of_all or name, by, _IN_RANGE, among)
    return or_zero(_quotient(part, whole), *by)


def mean(name: str, *by: str) -> str:
    """Return the mean of what a histogram observes; no point where it observes nothing."""
    return or_zero(f"{_rate(f'{name}_sum', by, {})} / ({_rate(f'{name}_count', by, {})} > 0)", *by)


def range_mean(name: str, *by: str) -> str:
    """Return the mean of what a histogram observed in the dashboard's range."""
    observed, times = (_growth(f"{name}{end}", by, _IN_RANGE, {}) for end in ("_sum", "_count"))
    return or_zero(f"{observed} / ({times} > 0)", *by)


def quantile(q: float, name: str, *by: str, **matchers: str) -> str:
    """Return a quantile of what a histogram observes; no point where it observes nothing."""
    return or_zero(f"histogram_quantile({q}, {_rate(f'{name}_bucket', ('le', *by), matchers)}) >= 0", *by)


def range_quantile(q: float, name: str, *by: str, **matchers: str) -> str:
    """Return a quantile of what a histogram observed in the dashboard's range."""
    buckets = _growth(f"{name}_bucket", ("le", *by), _IN_RANGE, matchers)
    return or_zero(f"histogram_quantile({q}, {buckets}) >= 0", *by)


def _family(name: str) -> Family:
    for suffix in ("_bucket", "_sum", "_count"):
        histogram = _FAMILIES.get(name.removesuffix(suffix))
        if name.endswith(suffix) and histogram is not None and histogram.kind == "histogram":
            return histogram
    return _FAMILIES[name]


def _ever(name: str, by: tuple[str, ...], matchers: Mapping[str, str]) -> str:
    return f" and {_sum(selector(name, **matchers), by)} > 0"


def _sorted(expression: str, limit: int) -> str:
    return f"topk({limit}, {expression})" if limit else f"sort_desc({expression})"


def _quotient(part: str, whole: str) -> str:
    return f"{part} / clamp_min({whole}, 1e-9)"  # 0/0 would blank the panel


def _sum(expression: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def _rate(name: str, by: tuple[str, ...], matchers: Mapping[str, str]) -> str:
    return _sum(f"rate({selector(name, **matchers)}[{_RECENTLY}])", by)


def _growth(name: str, by: tuple[str, ...], window: str, matchers: Mapping[str, str], ago: str = "") -> str:
    """Return a counter's growth in a window, with what a series that was born in it held at its birth.

    ``increase()`` sees nothing in a first sample. Which model answered and how a request failed is known only at its
    end, so such series begin above 0, and on a quiet day most of what was spent lies in first samples. A series is new
    if it was not there in the hour before the window; the added label keeps the two summands apart.
    """
    series, then = selector(name, **matchers), f" offset {ago}" if ago else ""
    first = f"min_over_time({series}[{window}]{then}) unless last_over_time({series}[1h] offset {ago}{window})"
    return _sum(f'increase({series}[{window}]{then}) or label_replace({first}, "sample", "first", "", "")', by)
