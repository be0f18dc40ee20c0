"""Builds the panels' PromQL: selectors follow the variables; sums and graphs are 0 before the first event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from eco2_callbacks.prometheus import LEDGER_FAMILIES
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES, FAMILIES, Family

__all__ = [
    "JOBS",
    "NONE",
    "TARGETS",
    "VARIABLES",
    "axes",
    "gauge",
    "last_hour",
    "mean",
    "named",
    "or_zero",
    "pace",
    "per_day",
    "per_hour",
    "per_minute",
    "per_second",
    "per_series",
    "quantile",
    "range_mean",
    "range_quantile",
    "range_share",
    "range_within",
    "ranking",
    "selector",
    "share",
    "sorted_desc",
    "total",
    "within",
]

NONE: Final = "none"
"""Label value of the series at 0 that is shown while no other series exists."""

VARIABLES: Final = {
    "node": "node",
    "subagent": "node",
    "agent_name": "agent",
    "intent": "intent",
    "model": "model",
    "tenant_id": "tenant",
}
"""The dashboard variable that filters a label. A dashboard without the variable drops the filter."""

TARGETS: Final = {"job": "job", "namespace": "namespace"}
"""The labels of a target, which every dashboard's variables filter. Outside Kubernetes no target has a namespace."""

JOBS: Final = "jobs"
"""A hidden variable: the jobs that have a handler."""

# The chat service's own families; graph/jobs/metrics.py exposes them.
_JOBS: Final = (
    Family("chat_jobs_waiting", "gauge", ("queue",), ""),
    Family("chat_job_wait_seconds", "histogram", ("queue",), ""),
    Family("chat_turnaround_seconds", "histogram", ("intent", "status"), ""),
    Family("chat_jobs_dead_total", "counter", ("queue", "reason"), ""),
    Family("chat_job_redeliveries_total", "counter", ("queue",), ""),
    Family("chat_worker_slots_busy", "gauge", (), ""),
    Family("chat_worker_slots", "gauge", (), ""),
)
_FAMILIES: Final = {family.name: family for family in (*FAMILIES, *BUDGET_FAMILIES, *LEDGER_FAMILIES, *_JOBS)}
# Names for empty label values; otherwise the series would have no name.
_UNNAMED: Final = {"tenant_id": "no tenant", "agent_name": "no agent", "node": "no node"}
_ANY: Final[Mapping[str, str]] = MappingProxyType({})
_WITHIN: Final = (("bucket", {"le": "$target"}), ("count", _ANY))
_RECENTLY: Final = "$__rate_interval"
_STEP: Final = "$__interval"
_MEDIUM: Final = "5m"
_LONG: Final = "15m"  # of single events a share within seconds is 0 or 1
_IN_RANGE: Final = "$__range"
# Every process of a cluster has these, so they are read for the jobs with a handler only.
_STARTED: Final = f'process_start_time_seconds{{job=~"${JOBS}",namespace=~"$namespace"}}'
_UP: Final = f'up{{job=~"${JOBS}",namespace=~"$namespace"}}'
# How long a window is, in seconds.
_SECONDS: Final = {_IN_RANGE: "$__range_s", _RECENTLY: "$__rate_interval_ms / 1000"} | {
    "5m": "300",
    "15m": "900",
    "1h": "3600",
    "1d": "86400",
    "7d": "604800",
    "1w": "604800",
}


def selector(name: str, **matchers: str) -> str:
    """Return the selector of a metric, with these labels and all labels that a dashboard variable filters.

    Args:
        name: The sample's name; for a histogram with ``_bucket``, ``_sum`` or ``_count``.
        matchers: Labels with their required value, or a regular expression if it contains a ``|``.

    Raises:
        ValueError: If the metric lacks one of the labels.
    """
    labels = _family(name).labels
    if unknown := set(matchers) - {*labels, "le"}:
        raise ValueError(f"{name} has no label {', '.join(sorted(unknown))}, only {', '.join(labels)}.")
    fixed = [f'{label}{"=~" if "|" in value else "="}"{value}"' for label, value in matchers.items()]
    free = [f'{label}=~"${VARIABLES[label]}"' for label in labels if label in VARIABLES and label not in matchers]
    targets = [f'{label}=~"${variable}"' for label, variable in TARGETS.items()]
    return f"{name}{{{','.join(fixed + free + targets)}}}"


def or_zero(expression: str, *by: str) -> str:
    """Return an expression that yields one series ``none`` at 0 if the given expression has no series."""
    zero = "vector(0)"
    for label in by:
        zero = f'label_replace({zero}, "{label}", "{NONE}", "", "")'
    return f"{named(expression, *by)} or on() {zero}"


def named(expression: str, *by: str) -> str:
    """Return an expression whose empty labels are named."""
    for label in by:
        if label in _UNNAMED:
            expression = f'label_replace({expression}, "{label}", "{_UNNAMED[label]}", "{label}", "")'
    return expression


def _or_rows(expression: str, by: tuple[str, ...]) -> str:
    """Return a number that is 0 without series, or the rows of a table, which has none then."""
    return named(expression, *by) if by else or_zero(expression)


def gauge(name: str, *by: str) -> str:
    """Return a gauge's value, summed over the processes."""
    return or_zero(_sum(selector(name), by), *by)


def axes(name: str) -> str:
    """Return a series at 0 that keeps the axes of a graph without points."""
    return or_zero(f"sum({selector(name)}) * 0")


def per_second(name: str, *by: str, only_nonzero: bool = False, **matchers: str) -> str:
    """Return a counter's growth per second. ``only_nonzero`` leaves out series that are still 0."""
    return or_zero(f"{_rate(name, by, matchers)}{_nonzero(name, by, matchers) if only_nonzero else ''}", *by)


def per_minute(name: str, *by: str, **matchers: str) -> str:
    """Return events per minute, including the first."""
    return or_zero(f"{_growth(name, by, _RECENTLY, matchers)} * 60000 / $__rate_interval_ms", *by)


def per_hour(name: str, *by: str, **matchers: str) -> str:
    """Return a counter's growth per hour. The area under the graph is the total growth."""
    return or_zero(f"{_growth(name, by, _RECENTLY, matchers)} * 3600000 / $__rate_interval_ms", *by)


def total(name: str, *by: str, **matchers: str) -> str:
    """Return a counter's growth in the dashboard's range."""
    return _or_rows(_growth(name, by, _IN_RANGE, matchers), by)


def per_series(name: str, **matchers: str) -> str:
    """Return each series' growth in the dashboard's range; nothing if none existed."""
    return _grown(name, _IN_RANGE, matchers, "")


def per_day(name: str, *by: str) -> str:
    """Return a counter's growth in the day that begins at each point; of today, so far."""
    return or_zero(f"{_growth(name, by, '1d', _ANY, '-1d')} > 0", *by)


def pace(name: str, window: str, seconds: int) -> str:
    """Return a counter's growth per second in a window that ends now."""
    return f"{_growth(name, (), window, _ANY)} / {seconds}"


def last_hour(name: str, *, ago: str = "") -> str:
    """Return a counter's growth in the hour before each point, shifted back by ``ago``: no point if unknown then."""
    growth = _growth(name, (), "1h", _ANY, ago)
    return growth if ago else or_zero(growth)


def ranking(name: str, *by: str, limit: int = 0) -> str:
    """Return a counter's growth in the dashboard's range, largest first, without series that did not grow.

    Args:
        name: The counter.
        by: Labels to keep.
        limit: Maximum number of series; 0 is all.
    """
    return _sorted(named(f"{_growth(name, by, _IN_RANGE, _ANY)} > 0", *by), limit)


def sorted_desc(expression: str) -> str:
    """Return the series of an instant query, largest first."""
    return _sorted(expression, 0)


def share(name: str, *by: str, **matchers: str) -> str:
    """Return the share of a counter's growth in 15 minutes with these labels; 0 while it does not grow."""

    def of(window: str) -> str:
        return _quotient(_rate(name, by, matchers, window), _rate(name, by, _ANY, window))

    return or_zero(_without_gaps(of, _LONG), *by)


def range_share(name: str, *by: str, of_all: str = "", **matchers: str) -> str:
    """Return the same share for the growth in the dashboard's range; ``of_all`` is another counter as the whole."""
    part, whole = _growth(name, by, _IN_RANGE, matchers), _growth(of_all or name, by, _IN_RANGE, _ANY)
    return _or_rows(_quotient(part, whole), by)


def within(name: str, *by: str) -> str:
    """Return the exact share of a histogram's events of 15 minutes that took at most ``$target`` seconds."""

    def of(window: str) -> str:
        part, whole = (_rate(f"{name}_{end}", by, given, window) for end, given in _WITHIN)
        return f"{part} / ({whole} > 0)"

    return or_zero(_without_gaps(of, _LONG), *by)


def range_within(name: str, *by: str) -> str:
    """Return the same share in the dashboard's range; no row without events."""
    part, whole = (_growth(f"{name}_{end}", by, _IN_RANGE, given) for end, given in _WITHIN)
    return named(f"{part} / ({whole} > 0)", *by)


def mean(name: str, *by: str) -> str:
    """Return a histogram's mean of five minutes; no point without observations."""

    def of(window: str) -> str:
        observed, times = (_rate(f"{name}{end}", by, _ANY, window) for end in ("_sum", "_count"))
        return f"{observed} / ({times} > 0)"

    return or_zero(_without_gaps(of, _MEDIUM), *by)


def range_mean(name: str, *by: str) -> str:
    """Return a histogram's mean in the dashboard's range."""
    observed, times = (_growth(f"{name}{end}", by, _IN_RANGE, {}) for end in ("_sum", "_count"))
    return named(f"{observed} / ({times} > 0)", *by)


def quantile(q: float, name: str, *by: str, **matchers: str) -> str:
    """Return a histogram's quantile of five minutes; no point without observations."""

    def of(window: str) -> str:
        return f"histogram_quantile({q}, {_rate(f'{name}_bucket', ('le', *by), matchers, window)}) >= 0"

    quantiles = _without_gaps(of, _MEDIUM)
    return or_zero(quantiles, *by) if by else quantiles


def range_quantile(q: float, name: str, *by: str, **matchers: str) -> str:
    """Return a histogram's quantile in the dashboard's range."""
    buckets = _growth(f"{name}_bucket", ("le", *by), _IN_RANGE, matchers)
    return named(f"histogram_quantile({q}, {buckets}) >= 0", *by)


def _family(name: str) -> Family:
    for suffix in ("_bucket", "_sum", "_count"):
        histogram = _FAMILIES.get(name.removesuffix(suffix))
        if name.endswith(suffix) and histogram is not None and histogram.kind == "histogram":
            return histogram
    return _FAMILIES[name]


def _nonzero(name: str, by: tuple[str, ...], matchers: Mapping[str, str]) -> str:
    return f" and {_sum(selector(name, **matchers), by)} > 0"


def _sorted(expression: str, limit: int) -> str:
    return f"topk({limit}, {expression})" if limit else f"sort_desc({expression})"


def _quotient(part: str, whole: str) -> str:
    return f"{part} / clamp_min({whole}, 1e-9)"  # 0/0 would blank the panel


def _sum(expression: str, by: tuple[str, ...]) -> str:
    return f"sum by ({', '.join(by)}) ({expression})" if by else f"sum({expression})"


def _without_gaps(of: Callable[[str], str], window: str) -> str:
    """Return an expression over a window, or over the time between two points of a long range if that is longer.

    Otherwise a month's graph, with a point every 43 minutes, would leave out most of what happened.
    """
    step, longest = "vector($__interval_ms)", f"{_SECONDS[window]}000"
    return f"({of(window)}) and on () ({step} <= {longest}) or ({of(_STEP)}) and on () ({step} > {longest})"


def _rate(name: str, by: tuple[str, ...], matchers: Mapping[str, str], window: str = _RECENTLY) -> str:
    return _sum(f"rate({selector(name, **matchers)}[{window}])", by)


def _growth(name: str, by: tuple[str, ...], window: str, matchers: Mapping[str, str], ago: str = "") -> str:
    """Return a counter's growth in a window, including the first value of a new series.

    ``increase()`` ignores a first sample. The model that answered and the error of a request are known only at the end,
    so these series start above 0. On a quiet day most of the cost is in first samples. A series is new if it did not
    exist in the hour before the window. It is not new if its process ran then and was not scraped, as where Prometheus
    lost its data. The added label keeps the two summands apart.
    """
    return _sum(_grown(name, window, matchers, ago), by)


def _grown(name: str, window: str, matchers: Mapping[str, str], ago: str) -> str:
    series, then = selector(name, **matchers), f" offset {ago}" if ago else ""
    before = "" if ago == f"-{window}" else f" offset {ago}{window}"  # -1d, and one day before it: now
    start = "time()" if not before else " - ".join(["time()", _SECONDS[window], *([_SECONDS[ago]] if ago else [])])
    ran = f"min_over_time({_STARTED}[{window}]{then}) < {start}"
    # A process may make its handler long after its first scrape.
    info = selector("eco2_callbacks_info")
    scraped = f"(max_over_time({_UP}[1h]{before}) == 1 or last_over_time({info}[1h]{before}))"
    unseen = f"{ran} unless on (job, instance) {scraped}"
    first = f"min_over_time({series}[{window}]{then}) unless last_over_time({series}[1h]{before})"
    first = f"{first} unless on (job, instance) ({unseen})"
    return f'increase({series}[{window}]{then}) or label_replace({first}, "sample", "first", "", "")'
