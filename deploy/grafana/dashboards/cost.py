"""The cost dashboard: spending by tenant, node, intent, model and part, and the share that is estimated."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard, langsmith
from dashboards.panels import Column, Limits, Query, bar_gauge, pie_chart, stat, table, timeseries
from dashboards.promql import (
    last_hour,
    mean,
    or_zero,
    per_hour,
    per_second,
    quantile,
    range_mean,
    range_share,
    ranking,
    selector,
    sorted_desc,
    total,
)

__all__ = ["UID", "cost"]

UID: Final = "eco2-cost"

_PAID: Final = "llm_cost_dollars_total"
_SPENT: Final = "graph_node_cost_dollars_total"
_PARTS: Final = "llm_cost_parts_dollars_total"
_ESTIMATED: Final = "llm_estimated_cost_dollars_total"
_PER_REQUEST: Final = "chat_request_cost_dollars"
_BUDGET: Final = Limits(0.8, 1)


def cost() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Cost",
        "Cost of the model calls in US dollars. Costs by tenant and costs by node and intent are separate metrics with "
        "the same sum. A variable filters the panels whose description names it.",
        [_key_figures(), _by_payer(), _by_place(), _requests(), _by_part(), _uncertain(), _budgets()],
        since="now-24h",
        refresh="1m",
    )


def _key_figures() -> Row:
    return Row(
        "Spent",
        [
            stat("Today", "Since midnight.", Query(total(_PAID), "today"), "currencyUSD", since="now/d"),
            stat(
                "This month",
                "Since the first of the month. Prometheus must keep data that long.",
                Query(total(_PAID), "month"),
                "currencyUSD",
                since="now/M",
            ),
            stat(
                "Month forecast",
                "Cost of the whole month at the average pace since the first.",
                Query(f"({total(_PAID)}) * days_in_month() * 86400 / $__range_s", "forecast"),
                "currencyUSD",
                since="now/M",
            ),
            stat("In this range", "All model calls.", Query(total(_PAID), "range"), "currencyUSD"),
            stat(
                "Estimated",
                "Share of the cost that is estimated: interrupted streams, answers without usage, media.",
                Query(range_share(_ESTIMATED, of_all=_PARTS), "estimated"),
                "percentunit",
                limits=Limits(0.05, 0.2),
            ),
            stat(
                "Calls without a price",
                "Their cost is unknown. No panel here includes it.",
                Query(total("llm_unpriced_calls_total"), "calls"),
                "count",
                limits=Limits(1, 10),
            ),
        ],
    )


def _by_payer() -> Row:
    return Row(
        "Who paid",
        [
            timeseries(
                "Dollars an hour by model",
                "The area under the graph is the amount spent.",
                [Query(per_hour(_PAID, "model"), "{{model}}")],
                "currencyUSD",
                stacked=True,
            ),
            timeseries(
                "Dollars an hour by tenant",
                "The area under the graph is the amount spent.",
                [Query(per_hour(_PAID, "tenant_id"), "{{tenant_id}}")],
                "currencyUSD",
                stacked=True,
            ),
            table(
                "Bill",
                "Usage by tenant and model. Input includes cached tokens, output includes reasoning.",
                {"tenant_id": "Tenant", "model": "Model"},
                [
                    Column("Cost", total(_PAID, "tenant_id", "model"), "currencyUSD"),
                    Column("Input", total("llm_tokens_total", "tenant_id", "model", token_type="input"), "short"),
                    Column("Output", total("llm_tokens_total", "tenant_id", "model", token_type="output"), "short"),
                ],
            ),
            timeseries(
                "The last hour, and the same a week ago",
                "Cost of the hour before each point.",
                [
                    Query(last_hour(_PAID), "this week"),
                    Query(last_hour(_PAID, ago="1w"), "a week before"),
                ],
                "currencyUSD",
            ),
        ],
    )


def _by_place() -> Row:
    return Row(
        "Where it was spent",
        [
            timeseries(
                "Dollars an hour by node",
                "The area under the graph is the amount spent.",
                [Query(per_hour(_SPENT, "node"), "{{node}}")],
                "currencyUSD",
                stacked=True,
                link=langsmith(
                    "Runs in LangSmith",
                    'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__field.labels.node}"))',
                ),
            ),
            timeseries(
                "Dollars an hour by intent",
                "The area under the graph is the amount spent. The call that detects the intent is unclassified.",
                [Query(per_hour(_SPENT, "intent"), "{{intent}}")],
                "currencyUSD",
                stacked=True,
                link=langsmith("Requests in LangSmith", 'has(tags, "intent:${__field.labels.intent}")'),
            ),
            bar_gauge("By node", "In this range.", Query(ranking(_SPENT, "node"), "{{node}}"), "currencyUSD"),
            bar_gauge("By intent", "In this range.", Query(ranking(_SPENT, "intent"), "{{intent}}"), "currencyUSD"),
            bar_gauge("By model", "In this range.", Query(ranking(_PAID, "model"), "{{model}}"), "currencyUSD"),
            bar_gauge(
                "By tenant", "In this range.", Query(ranking(_PAID, "tenant_id"), "{{tenant_id}}"), "currencyUSD"
            ),
        ],
    )


def _requests() -> Row:
    return Row(
        "Cost of a request",
        [
            stat(
                "Mean",
                "Of all requests in this range.",
                Query(range_mean(_PER_REQUEST), "mean"),
                "currencyUSD",
                height=8,
            ),
            timeseries(
                "Mean by intent",
                "US dollars of one request.",
                [Query(mean(_PER_REQUEST, "intent"), "{{intent}}")],
                "currencyUSD",
                width=10,
            ),
            timeseries(
                "Spread",
                "One request in 2, in 20 and in 100 costs more.",
                [Query(quantile(q, _PER_REQUEST), f"p{q * 100:g}") for q in (0.5, 0.95, 0.99)],
                "currencyUSD",
                width=10,
            ),
        ],
    )


def _by_part() -> Row:
    tokens = "graph_node_tokens_total"
    return Row(
        "On what",
        [
            pie_chart(
                "Parts of the bill",
                "What was billed in this range, by part.",
                Query(ranking(_PARTS, "part"), "{{part}}"),
                "currencyUSD",
            ),
            timeseries(
                "Tokens a second",
                "Input includes cached tokens, which cost less. Output includes reasoning.",
                [
                    Query(per_second(tokens, token_type="input"), "input"),
                    Query(per_second("llm_cached_tokens_total", kind="read"), "of input: cached"),
                    Query(per_second(tokens, token_type="output"), "output"),
                    Query(per_second("llm_reasoning_tokens_total"), "of output: reasoning"),
                ],
                "suffix: tok/s",
                width=16,
            ),
        ],
    )


def _uncertain() -> Row:
    return Row(
        "What is not known exactly",
        [
            bar_gauge(
                "Estimated, and why",
                "Estimated dollars in this range, by reason.",
                Query(ranking(_ESTIMATED, "reason"), "{{reason}}"),
                "currencyUSD",
                height=6,
                width=12,
            ),
            bar_gauge(
                "Without a price, and why",
                "Calls in this range. For an unknown model, add its rate to the file of custom rates.",
                Query(ranking("llm_unpriced_calls_total", "model", "reason", limit=5), "{{model}}: {{reason}}"),
                "count",
                height=6,
                width=12,
            ),
        ],
    )


def _budgets() -> Row:
    monthly = "tenant_monthly_budget_usd"
    return Row(
        "Budgets",
        [
            bar_gauge(
                "Today's budget used",
                "Cost since midnight as a share of the tenant's daily budget.",
                Query(sorted_desc(_used("tenant_daily_budget_usd")), "{{tenant_id}}"),
                "percentunit",
                limits=_BUDGET,
                since="now/d",
                width=8,
            ),
            bar_gauge(
                "The month's budget used",
                "Cost since the first of the month as a share of the tenant's monthly budget.",
                Query(sorted_desc(_used(monthly)), "{{tenant_id}}"),
                "percentunit",
                limits=_BUDGET,
                since="now/M",
                width=8,
            ),
            table(
                "Left of the month's budget",
                "Tenants without a budget have no row.",
                {"tenant_id": "Tenant"},
                [
                    Column("Budget", or_zero(_budget(monthly), "tenant_id"), "currencyUSD"),
                    Column("Left", or_zero(f"{_budget(monthly)} - ({_spent(monthly)})", "tenant_id"), "currencyUSD"),
                ],
                since="now/M",
                width=8,
            ),
        ],
    )


def _budget(name: str) -> str:
    return f"max by (tenant_id) ({selector(name)})"  # every process exports it


def _spent(budget: str) -> str:
    return f"{total(_PAID, 'tenant_id')} or {_budget(budget)} * 0"


def _used(budget: str) -> str:
    return or_zero(f"({_spent(budget)}) / ({_budget(budget)} > 0)", "tenant_id")
