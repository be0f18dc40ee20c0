"""The configuration of one instance of the mixin, read from a TOML file and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
import promql_parser
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError
from eco2_callbacks.prometheus.families import FAMILIES
from graph.jobs import JobMetrics

__all__ = ["GROUPS", "Group", "MixinConfig", "Slo", "Teams", "Thresholds", "Urls", "load_config"]

Group: TypeAlias = Literal["worker", "cost", "budgets", "ledger", "errors", "latency", "streaming", "jobs", "slo"]
GROUPS: Final[tuple[Group, ...]] = (
    *("worker", "cost", "budgets", "ledger", "errors", "latency", "streaming", "jobs", "slo"),
)
Events: TypeAlias = Literal["answer", "request", "node", "publish"]
_LOCAL: Final = ("localhost", "127.", "0.0.0.0", "::1")  # noqa: S104  compared with, not bound
# The histogram of an SLO's events, and the label that tells which of them.
_HISTOGRAMS: Final[dict[Events, tuple[str, str]]] = {
    "answer": ("chat_turnaround_seconds", "intent"),
    "request": ("chat_request_duration_seconds", "intent"),
    "node": ("graph_node_duration_seconds", "node"),
    "publish": ("chat_stream_token_latency_seconds", ""),
}
_TEXTS: Final[dict[Events, str]] = {
    "answer": "answers with intent",
    "request": "requests with intent",
    "node": "runs of node",
    "publish": "published tokens",
}


class Urls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where people go from an alert.

    Attributes:
        grafana: Grafana's address as people reach it.
        runbooks: Address of the folder with the runbooks.
    """

    grafana: str
    runbooks: str


class Teams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Values of the label ``team``: who runs the service, and who answers for its cost."""

    service: str = "chat"
    cost: str = "cost"


class Thresholds(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of the alerts. Shares are 0 to 1; seconds of a histogram are bounds of its buckets.

    Attributes:
        cost_jump_factor: CostJump: the last hour against the same hour a week ago.
        cost_jump_min_usd: CostJump: an hour below it is noise.
        calls_without_usage: LLMCallsUnpriced: calls without usage in an hour.
        estimated_share: EstimatedCostShareHigh: share of six hours' cost.
        estimated_min_usd: EstimatedCostShareHigh: estimated dollars of six hours.
        budget_near: BudgetNear, TenantMonthlyBudgetNear: share of the budget.
        daily_budget_page: TenantDailyBudgetExceeded pages from this multiple of a day's budget.
        ledger_lag_seconds: LedgerLagHigh: age of the oldest record that waits.
        prices_age_days: PricesOld.
        error_share: AgentErrorRateHigh, NodeErrorRateHigh: share of 15 minutes.
        tool_error_share: ToolErrorRateHigh: share of 15 minutes.
        rate_limited_share: LLMRateLimited: share of 15 minutes.
        min_failures: Fewer failures, slow runs or late jobs than these are noise.
        node_p99_seconds: NodeLatencyHigh.
        agent_p99_seconds: AgentLatencyHigh.
        publish_seconds: HighTokenLatency.
        stream_seconds: StreamDurationTooLong.
        job_wait_seconds: JobsWaitTooLong.
        busy_slots_share: TooManyActiveStreams.
        slo_min_events: Fewer events than these in an SLO's long window are no trend.
    """

    cost_jump_factor: float = 2
    cost_jump_min_usd: float = 5
    calls_without_usage: int = 10
    estimated_share: float = 0.1
    estimated_min_usd: float = 1
    budget_near: float = 0.8
    daily_budget_page: float = 2
    ledger_lag_seconds: float = 300
    prices_age_days: float = 45
    error_share: float = 0.05
    tool_error_share: float = 0.1
    rate_limited_share: float = 0.02
    min_failures: int = 5
    node_p99_seconds: float = 60
    agent_p99_seconds: float = 60
    publish_seconds: float = 0.1
    stream_seconds: float = 30
    job_wait_seconds: float = 5
    busy_slots_share: float = 0.9
    slo_min_events: int = 20


class Slo(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One objective: a share of some events ends within some seconds.

    Attributes:
        name: Value of the label ``slo``.
        events: ``answer`` (a job's turnaround), ``request``, ``node`` or ``publish`` (one token).
        of: The intent or the node; every event without it.
        seconds: An event is fast up to this; a bound of the histogram's buckets.
        objective: Share of the events that must be fast.
        pages: Whether a fast burn wakes somebody; otherwise the alert is a ticket.
        text: What the events are, as a plural: "answers about waste".
        alert: Name of the alert, and of its runbook.
        dashboard: Uid of the dashboard, with variables.
    """

    name: str
    events: Events
    of: str = ""
    seconds: float
    objective: float = 0.95
    pages: bool = True
    text: str = ""
    alert: str = "LatencyBudgetBurn"
    dashboard: str = "eco2-overview"

    @property
    def histogram(self) -> str:
        """The histogram that counts the events."""
        return _HISTOGRAMS[self.events][0]

    @property
    def matcher(self) -> str:
        """The part of the histogram's selector that tells which events, with its comma."""
        return f",{_HISTOGRAMS[self.events][1]}={_quoted(self.of)}" if self.of else ""

    @property
    def allowed(self) -> str:
        """The share that may be slow, in digits."""
        return f"{round(1 - self.objective, 9):g}"

    @property
    def events_text(self) -> str:
        """The events in words."""
        return self.text or f"{_TEXTS[self.events]} {self.of}".strip()

    @property
    def subject(self) -> str:
        """The events in words, at the start of a sentence."""
        return self.events_text[0].upper() + self.events_text[1:]


class MixinConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One instance of the mixin.

    Attributes:
        service: Value of the label ``service`` on every alert and recorded series: two instances on one Prometheus
            differ by it.
        selector: PromQL matchers of the application's targets, such as ``job="shop",namespace="prod"``. They must be
            labels of the target, because ``up`` is selected by them too.
        urls: Where people go from an alert.
        groups: The rule files to write. ``streaming`` and ``jobs`` need the metrics of a chat service.
        teams: Values of the label ``team``.
        thresholds: The limits of the alerts.
        slos: The objectives.
    """

    service: str
    selector: str
    urls: Urls
    groups: tuple[Group, ...] = ("worker", "cost", "budgets", "ledger", "errors", "latency", "slo")
    teams: Teams = Teams()
    thresholds: Thresholds = Thresholds()
    slos: tuple[Slo, ...] = ()


def load_config(path: Path) -> MixinConfig:
    """Return the configuration in a TOML file.

    Raises:
        ConfigError: If the file cannot be read, a key is unknown or a value is impossible.
    """
    try:
        config = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), MixinConfig)
    except (OSError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path} cannot be used: {error}. deploy/mixin/chat-worker.toml is an example.") from error
    for problem in _problems(config):
        raise ConfigError(f"{path}: {problem}")
    return config


def _problems(config: MixinConfig) -> list[str]:
    found = [
        f"urls.{name} is {url!r}, wanted an address that people can open from an alert, such as https://grafana.my.org"
        for name, url in (("grafana", config.urls.grafana), ("runbooks", config.urls.runbooks))
        if not _is_public(url)
    ]
    if not config.service or not config.service.replace("-", "").replace("_", "").isalnum():
        found.append(f"service is {config.service!r}, wanted a name of letters, digits, - and _")
    try:
        promql_parser.parse(f"up{{{config.selector}}}")
    except ValueError as error:
        found.append(f"""selector is {config.selector!r}, wanted matchers such as 'job="shop"': {error}""")
    if not config.selector.strip():
        found.append("""selector is empty, wanted matchers such as 'job="shop"'; other applications would count too""")
    found += _threshold_problems(config.thresholds)
    found += [problem for slo in config.slos for problem in _slo_problems(slo)]
    names = [slo.name for slo in config.slos]
    found += [f"two SLOs are named {name!r}; give each a name of its own" for name in names if names.count(name) > 1]
    return found


def _threshold_problems(thresholds: Thresholds) -> list[str]:
    found = []
    for name in Thresholds.__struct_fields__:
        value = getattr(thresholds, name)
        if not value > 0:
            found.append(f"thresholds.{name} is {value!r}, wanted a number above 0")
        elif name.endswith("_share") and value >= 1:
            found.append(f"thresholds.{name} is {value!r}, wanted a share below 1, such as 0.05")
    histograms = {
        "node_p99_seconds": "graph_node_duration_seconds",
        "agent_p99_seconds": "agent_request_duration_seconds",
        "publish_seconds": "chat_stream_token_latency_seconds",
        "stream_seconds": "chat_stream_duration_seconds",
        "job_wait_seconds": "chat_job_wait_seconds",
    }
    return found + [
        problem
        for name, histogram in histograms.items()
        for problem in _bound_problems(f"thresholds.{name}", getattr(thresholds, name), histogram)
    ]


def _slo_problems(slo: Slo) -> list[str]:
    what = f"slo {slo.name!r}"
    found = _bound_problems(f"{what}: seconds", slo.seconds, slo.histogram)
    if not 0 < slo.objective < 1:
        found.append(f"{what}: objective is {slo.objective!r}, wanted a share between 0 and 1, such as 0.95")
    if slo.of and slo.events == "publish":
        found.append(f"{what}: of is {slo.of!r}, but published tokens have no intent; leave it out")
    checks: dict[str, Callable[[str], bool]] = {"name": str.isidentifier, "alert": str.isidentifier}
    return found + [
        f"{what}: {name} is {getattr(slo, name)!r}, wanted letters, digits and _"
        for name, is_right in checks.items()
        if not is_right(getattr(slo, name))
    ]


def _bound_problems(what: str, seconds: float, histogram: str) -> list[str]:
    bounds = _bounds()[histogram]
    if seconds in bounds:
        return []
    return [f"{what} is {seconds!r}, wanted a bound of {histogram}: {', '.join(f'{bound:g}' for bound in bounds)}"]


def _bounds() -> dict[str, tuple[float, ...]]:
    jobs = JobMetrics(CollectorRegistry())
    jobs.ended("", "", 0)
    bounds = {family.name: tuple(map(float, family.buckets)) for family in FAMILIES if family.buckets}
    for metric in jobs.collect():
        found = {float(sample.labels["le"]) for sample in metric.samples if "le" in sample.labels} - {float("inf")}
        bounds |= {metric.name: tuple(sorted(found))} if found else {}
    return bounds


def _is_public(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    return parts.scheme in {"http", "https"} and bool(host) and not host.startswith(_LOCAL) and not url.endswith("/")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
