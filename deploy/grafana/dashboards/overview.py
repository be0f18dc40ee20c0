"""The overview dashboard: requests, latency, success, alerts, and the worst nodes."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import RUNBOOKS, Row, dashboard, langsmith
from dashboards.nodes import ERRORS
from dashboards.panels import Column, Limits, Link, Query, bar_gauge, p50_and_p95, stat, table, timeseries
from dashboards.promql import (
    gauge,
    or_zero,
    per_minute,
    quantile,
    quantile_ranking,
    range_mean,
    range_quantile,
    range_share,
    ranking,
    selector,
    share,
    share_ranking,
    total,
)

__all__ = ["UID", "overview"]

UID: Final = "eco2-overview"

_REQUESTS: Final = "chat_requests_total"
_SECONDS: Final = "chat_request_duration_seconds"
_SLOW: Final = Limits(3, 5)  # the objectives at p95: general 3 s, waste 5 s
_FIRING: Final = 'sum by (alertname, severity) (ALERTS{alertstate="firing",service="eco2-chat-worker"})'
_OF_INTENT: Final = langsmith("Requests in LangSmith", 'has(tags, "intent:${__field.labels.intent}")')
_OF_NODE: Final = langsmith(
    "Runs in LangSmith", 'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__field.labels.node}"))'
)


def overview() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Overview",
        "Requests to the chat worker: number, latency, success, alerts and the worst nodes. Start here.",
        [_key_figures(), _requests(), _intents(), _trouble(), _telemetry()],
        since="now-1h",
        refresh="30s",
    )


def _key_figures() -> Row:
    return Row(
        "In this range",
        [
            stat("Requests", "Finished requests.", Query(total(_REQUESTS), "requests"), "count"),
            stat(
                "Success",
                "Share of the requests that did not fail. Cancelled requests are not failures.",
                Query(f"1 - ({range_share(_REQUESTS, status='error')})", "success"),
                "percentunit",
                limits=Limits(0.99, 0.95),
            ),
            stat(
                "Latency p95",
                "One request in 20 took longer.",
                Query(range_quantile(0.95, _SECONDS), "p95"),
                "s",
                limits=_SLOW,
            ),
            stat(
                "Open requests",
                "Requests in progress now.",
                Query(gauge("agent_active_sessions"), "open"),
                "count",
                sparkline=True,
            ),
            stat("Cost", "Of all model calls.", Query(total("llm_cost_dollars_total"), "cost"), "currencyUSD"),
            stat(
                "Processes",
                "Processes that Prometheus scrapes.",
                Query(or_zero(f"count({selector('eco2_callbacks_info')})"), "processes"),
                "count",
                limits=Limits(1, 0.5),
                sparkline=True,
            ),
        ],
    )


def _requests() -> Row:
    return Row(
        "Requests",
        [
            timeseries(
                "Requests by how they end",
                "Requests per minute by status.",
                [Query(per_minute(_REQUESTS, "status"), "{{status}}")],
                "suffix:/min",
                stacked=True,
            ),
            timeseries(
                "Latency",
                "Duration of a request. Objectives at p95: 3 s for general questions, 5 s for waste.",
                [Query(quantile(q, _SECONDS), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                "s",
                limits=_SLOW,
                exemplars=True,
            ),
            timeseries(
                "Latency p95 by tenant",
                "One request in 20 of a tenant took longer.",
                p50_and_p95("agent_request_duration_seconds", "tenant_id")[1:],
                "s",
            ),
            timeseries(
                "Errors by tenant",
                "Failed requests per minute by tenant.",
                [Query(per_minute("agent_errors_total", "tenant_id"), "{{tenant_id}}")],
                "suffix:/min",
            ),
        ],
    )


def _intents() -> Row:
    return Row(
        "Intents",
        [
            timeseries(
                "Requests by intent",
                "Requests per minute by intent. Click an intent to open its requests in LangSmith.",
                [Query(per_minute("chat_intent_total", "intent"), "{{intent}}")],
                "suffix:/min",
                stacked=True,
                link=_OF_INTENT,
            ),
            timeseries(
                "Latency p95 by intent",
                "Objectives: 3 s for general questions, 5 s for waste.",
                p50_and_p95(_SECONDS, "intent")[1:],
                "s",
                limits=_SLOW,
                exemplars=True,
                link=_OF_INTENT,
            ),
            table(
                "Intents in this range",
                "Requests, errors, latency and cost by intent. Click an intent to open its requests in LangSmith.",
                {"intent": "Intent"},
                [
                    Column("Requests", total("chat_intent_total", "intent"), "count"),
                    Column("Errors", range_share(_REQUESTS, "intent", status="error"), "percentunit", ERRORS),
                    Column("p50", range_quantile(0.5, _SECONDS, "intent"), "s"),
                    Column("p95", range_quantile(0.95, _SECONDS, "intent"), "s", _SLOW),
                    Column("Cost of one", range_mean("chat_request_cost_dollars", "intent"), "currencyUSD"),
                ],
                links={"Intent": langsmith("Requests in LangSmith", 'has(tags, "intent:${__value.raw}")')},
                height=12,
                width=24,
            ),
        ],
    )


def _trouble() -> Row:
    return Row(
        "Where it hurts",
        [
            table(
                "Alerts",
                "Alerts that fire now. Click an alert to open its runbook.",
                {"alertname": "Alert", "severity": "Severity"},
                [Column("Firing", or_zero(_FIRING, "alertname", "severity"), "count")],
                links={"Alert": Link("Runbook", f"{RUNBOOKS}/${{__value.raw}}.md")},
                width=8,
            ),
            bar_gauge(
                "Nodes that fail most",
                "Share of a node's runs that failed. Click a node to open its runs in LangSmith.",
                Query(share_ranking("graph_node_runs_total", "node", limit=5, status="error"), "{{node}}"),
                "percentunit",
                limits=ERRORS,
                link=_OF_NODE,
                width=8,
            ),
            bar_gauge(
                "Slowest nodes",
                "Duration at p95. Click a node to open its runs in LangSmith.",
                Query(quantile_ranking(0.95, "graph_node_duration_seconds", "node", limit=5), "{{node}}"),
                "s",
                link=_OF_NODE,
                width=8,
            ),
            bar_gauge(
                "Errors",
                "Failed requests in this range, by intent and exception class.",
                Query(ranking("chat_errors_total", "intent", "error_type", limit=5), "{{error_type}} ({{intent}})"),
                "count",
                link=_OF_INTENT,
                width=8,
            ),
            timeseries(
                "Error rate by intent",
                "Share of an intent's requests that failed.",
                [Query(share(_REQUESTS, "intent", status="error"), "{{intent}}")],
                "percentunit",
                limits=ERRORS,
                link=_OF_INTENT,
                width=8,
            ),
            timeseries(
                "Rate limits",
                "Model calls per minute that the provider answered with 429.",
                [Query(per_minute("llm_rate_limit_errors_total", "model", only_nonzero=True), "{{model}}")],
                "suffix:/min",
                width=8,
            ),
        ],
    )


def _telemetry() -> Row:
    return Row(
        "Is the telemetry itself well?",
        [
            stat(
                "Handler errors",
                "Exceptions inside the handler. The requests are not affected.",
                Query(total("eco2_callbacks_errors_total"), "errors"),
                "count",
                limits=Limits(1, 10),
                width=6,
            ),
            stat(
                "Label overflow",
                "Label values above the limit, and texts, counted as 'other'.",
                Query(total("eco2_callbacks_label_overflow_total"), "values"),
                "count",
                limits=Limits(1, 100),
                width=6,
            ),
            stat(
                "Evicted runs",
                "Runs closed because too many were open, or because they were open too long.",
                Query(total("eco2_callbacks_evicted_runs_total"), "runs"),
                "count",
                limits=Limits(1, 100),
                width=6,
            ),
            stat(
                "Open runs",
                "Started runs that have not ended. Rises without limit if end callbacks are lost.",
                Query(gauge("eco2_callbacks_open_runs"), "runs"),
                "count",
                sparkline=True,
                width=6,
            ),
        ],
    )
