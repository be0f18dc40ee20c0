"""The overview dashboard: cost and budgets, requests, alerts, telemetry, and single requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dashboards.cost import BUDGET, budget_use
from dashboards.dashboard import Row, dashboard, langsmith
from dashboards.panels import Query, bar_gauge, dollars_an_hour, stat, timeseries
from dashboards.promql import (
    NONE,
    axes,
    or_zero,
    per_minute,
    per_series,
    quantile,
    range_mean,
    range_quantile,
    range_share,
    range_within,
    ranking,
    selector,
    total,
    within,
)
from dashboards.styles import Limits, Link
from dashboards.tables import Column, table
from dashboards.traces import traces

__all__ = ["ERRORS", "ON_TIME", "UID", "overview"]

UID: Final = "eco2-overview"
ERRORS: Final = Limits(0.01, 0.05)
ON_TIME: Final = Limits(0.95, 0.9)

_REQUESTS: Final = "chat_requests_total"
_SECONDS: Final = "chat_request_duration_seconds"
_PAID: Final = "llm_cost_dollars_total"
_OF_INTENT: Final = langsmith("Requests in LangSmith", 'has(tags, "intent:${__field.labels.intent}")')


def overview(*, services: Sequence[str], runbooks: str) -> str:
    """Return the dashboard's JSON.

    Args:
        services: Values of the label ``service`` of the alerts that it shows.
        runbooks: Address of the folder with the alerts' runbooks.
    """
    return dashboard(
        UID,
        "Eco2 Overview",
        "Cost, budgets, requests, alerts and the health of the telemetry. Start here.",
        [_now(), _money_and_requests(), _intents(), _trouble(services, runbooks), _telemetry(), traces()],
        filters=["intent", "target"],
        since="now-1h",
        refresh="30s",
    )


def _now() -> Row:
    return Row(
        "At a glance",
        [
            stat(
                "Cost today",
                "What was spent since midnight?",
                Query(total(_PAID), "today"),
                "currencyUSD",
                since="now/d",
                width=5,
            ),
            stat(
                "Fullest budget",
                "How much of the fullest budget is used? At 100% its calls are refused.",
                Query(budget_use(), "used"),
                "percentunit",
                limits=BUDGET,
                no_value="no budget",
                width=5,
            ),
            stat("Requests", "How many requests ended in this range?", Query(total(_REQUESTS), "requests"), "count"),
            stat(
                "Success",
                "Which share of the requests did not fail? Cancelled requests are not failures.",
                Query(f"1 - ({range_share(_REQUESTS, status='error')})", "success"),
                "percentunit",
                limits=Limits(0.99, 0.95),
                width=5,
            ),
            stat(
                "Within the target",
                "Which share of the requests took at most the target? This share is exact.",
                Query(range_within(_SECONDS), "within"),
                "percentunit",
                limits=ON_TIME,
                no_value="no request",
                width=5,
            ),
        ],
    )


def _money_and_requests() -> Row:
    return Row(
        "Cost and requests",
        [
            dollars_an_hour(_PAID, "model", of="model", who="Which model"),
            timeseries(
                "Requests by how they end",
                "How many requests a minute, and how do they end?",
                [Query(per_minute(_REQUESTS, "status"), "{{status}}")],
                "suffix:/min",
                stacked=True,
            ),
            timeseries(
                "Within the target, by intent",
                "Which share of an intent's requests took at most the target? This share is exact.",
                [Query(within(_SECONDS, "intent"), "{{intent}}")],
                "percentunit",
                max_value=1,
                link=_OF_INTENT,
            ),
            timeseries(
                "Latency",
                "How long does a request take? Estimated within the histogram's buckets; dots are single requests.",
                [
                    *(Query(quantile(q, _SECONDS), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)),
                    Query(axes(f"{_SECONDS}_count"), NONE),
                ],
                "s",
                exemplars=True,
            ),
        ],
    )


def _intents() -> Row:
    return Row(
        "Intents",
        [
            table(
                "Intents in this range",
                "What do users ask, how well is it answered, and for how much? Click an intent to open its requests in "
                "LangSmith.",
                {"intent": "Intent"},
                [
                    Column("Requests", total("chat_intent_total", "intent"), "count", adds_up=True),
                    Column("Errors", range_share(_REQUESTS, "intent", status="error"), "percentunit", ERRORS),
                    Column("Within the target", range_within(_SECONDS, "intent"), "percentunit", ON_TIME),
                    Column("p95", range_quantile(0.95, _SECONDS, "intent"), "s"),
                    Column("Cost of one", range_mean("chat_request_cost_dollars", "intent"), "currencyUSD"),
                    Column("Cost", total("chat_request_cost_dollars_sum", "intent"), "currencyUSD", adds_up=True),
                ],
                links={"Intent": langsmith("Requests in LangSmith", 'has(tags, "intent:${__value.raw}")')},
                height=14,
                width=24,
            )
        ],
    )


def _trouble(services: Sequence[str], runbooks: str) -> Row:
    own = "|".join(services)
    firing = f'sum by (alertname, service, severity) (ALERTS{{alertstate="firing",service=~"{own}"}})'
    return Row(
        "Where it hurts",
        [
            table(
                "Alerts",
                "Which alerts fire now? Click an alert to open its runbook.",
                {"alertname": "Alert", "service": "Service", "severity": "Severity"},
                [Column("Firing", firing, "count")],
                links={"Alert": Link("Runbook", f"{runbooks}/${{__value.raw}}.md")},
            ),
            bar_gauge(
                "Errors",
                "With which exceptions do requests fail, by intent?",
                Query(ranking("chat_errors_total", "intent", "error_type", limit=5), "{{error_type}} ({{intent}})"),
                "count",
                link=_OF_INTENT,
                width=12,
            ),
        ],
    )


def _telemetry() -> Row:
    def newest(name: str) -> str:
        return f"max({selector(name)})"

    return Row(
        "Is the telemetry itself well?",
        [
            stat(
                "Processes",
                "How many processes does Prometheus scrape?",
                # In multiprocess mode the info of former price data stays, at 0.
                Query(or_zero(f"count(count by (job, instance) ({selector('eco2_callbacks_info')}))"), "processes"),
                "count",
                limits=Limits(1, 0.5),
            ),
            stat(
                "Handler errors",
                "Did the handler fail? The requests are not affected, but figures are missing.",
                Query(total("eco2_callbacks_errors_total"), "errors"),
                "count",
                limits=Limits(1, 10),
            ),
            stat(
                "Label overflow",
                "Were label values counted as 'other', above the limit or as texts?",
                Query(total("eco2_callbacks_label_overflow_total"), "values"),
                "count",
                limits=Limits(1, 100),
            ),
            stat(
                "Age of the prices",
                "How old is the price data in use?",
                Query(newest("eco2_callbacks_prices_age_seconds"), "age"),
                "s",
                limits=Limits(30 * 86400, 45 * 86400),
            ),
            stat(
                "Ledger lag",
                "How old is the oldest record that waits for the ledger?",
                Query(newest("ledger_lag_seconds"), "lag"),
                "s",
                limits=Limits(60, 300),
                no_value="no ledger",
            ),
            stat(
                "Lost records",
                "Did the ledger lose records? Its reports are too low by them.",
                Query(f"sum({per_series('ledger_lost_rows_total')})", "lost"),
                "count",
                limits=Limits(1, 1),
                no_value="no ledger",
            ),
        ],
    )
