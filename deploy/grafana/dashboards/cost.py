"""The cost dashboard: what was spent, budgets, who paid, on what, and what is not known exactly."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard
from dashboards.panels import Query, bar_gauge, dollars_an_hour, stat, timeseries
from dashboards.promql import (
    last_hour,
    named,
    or_zero,
    pace,
    per_day,
    per_hour,
    per_series,
    range_share,
    ranking,
    selector,
    sorted_desc,
    total,
)
from dashboards.styles import Limits
from dashboards.tables import Column, table

__all__ = ["BUDGET", "UID", "budget_use", "cost"]

UID: Final = "eco2-cost"
BUDGET: Final = Limits(0.8, 1)

_PAID: Final = "llm_cost_dollars_total"
_PARTS: Final = "llm_cost_parts_dollars_total"
_ESTIMATED: Final = "llm_estimated_cost_dollars_total"
_SAVED: Final = "llm_cache_savings_dollars_total"
_SURCHARGE: Final = "llm_cache_surcharge_dollars_total"
_WEEK_SECONDS: Final = 7 * 86400


def cost() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Cost",
        "Cost of the model calls in US dollars: what, who, on what, and how certain. Where it was spent, by agent and "
        "node, stands on Eco2 Agents and nodes.",
        [_spent(), _budgets(), _by_payer(), _by_part(), _uncertain()],
        filters=["tenant", "model"],
        since="now-24h",
        refresh="1m",
    )


def _spent() -> Row:
    return Row(
        "Spent",
        [
            stat(
                "Today",
                "What was spent since midnight?",
                Query(total(_PAID), "today"),
                "currencyUSD",
                since="now/d",
                width=6,
            ),
            stat(
                "Yesterday",
                "What was spent in the whole day before?",
                Query(f"sum({per_series(_PAID)})", "yesterday"),
                "currencyUSD",
                since="now/d",
                shift="1d/d",
                no_value="no data",
                width=6,
            ),
            stat(
                "This month",
                "What was spent since the first of the month? Prometheus must keep data that long.",
                Query(total(_PAID), "month"),
                "currencyUSD",
                since="now/M",
                width=6,
            ),
            stat(
                "Month forecast",
                "What will the whole month cost? Spent so far, and the rest of the month at the pace of the last seven "
                "days. Shown only with seven days of data.",
                Query(_forecast(), "forecast"),
                "currencyUSD",
                since="now/M",
                no_value="needs 7 days",
                width=6,
            ),
            timeseries(
                "This month by day",
                "Which day and which model cost what? The last bar is today so far; days are in UTC.",
                [Query(per_day(_PAID, "model"), "{{model}}")],
                "currencyUSD",
                stacked=True,
                daily=True,
                since="now/M",
            ),
            timeseries(
                "The last hour, and the same a week ago",
                "Is the cost of the hour before each point unusual?",
                [Query(last_hour(_PAID), "this week"), Query(last_hour(_PAID, ago="1w"), "a week before")],
                "currencyUSD",
            ),
        ],
    )


def _budgets() -> Row:
    def of(name: str) -> str:
        return f"max by (budget, window) ({selector(name)})"  # of processes without a store, the fullest

    spent, limit = of("budget_spent_dollars"), of("budget_limit_dollars")
    refused = total("budget_refused_calls_total", "budget")
    return Row(
        "Budgets",
        [
            bar_gauge(
                "Share of each budget used",
                "Which budget is nearly used up? Spent and reserved in its current window, as a share of its limit.",
                Query(sorted_desc(budget_use("budget", "window")), "{{budget}}"),
                "percentunit",
                limits=BUDGET,
            ),
            table(
                "Budgets",
                "What is left of each budget? Spent includes what open calls have reserved. A budget per user or "
                "session shows its highest spender.",
                {"budget": "Budget", "window": "Window"},
                [
                    Column("Used", budget_use("budget", "window"), "percentunit", BUDGET),
                    Column("Spent", spent, "currencyUSD"),
                    Column("Limit", limit, "currencyUSD"),
                    Column("Left", f"{limit} - {spent}", "currencyUSD", Limits(0.01, 0)),
                    Column("Refused calls", refused, "count", Limits(1, 1)),
                ],
                width=16,
            ),
        ],
    )


def _by_payer() -> Row:
    return Row(
        "Who paid",
        [
            dollars_an_hour(_PAID, "tenant_id", of="tenant", who="Who", width=10),
            table(
                "Bill",
                "Who used which model, and for how much? Input includes cached tokens, output includes "
                "reasoning. Without a price there is no cost.",
                {"tenant_id": "Tenant", "model": "Model"},
                [
                    Column("Cost", f"{total(_PAID, 'tenant_id', 'model')} > 0", "currencyUSD", adds_up=True),
                    Column(
                        "Input",
                        total("llm_tokens_total", "tenant_id", "model", token_type="input"),
                        "short",
                        adds_up=True,
                    ),
                    Column(
                        "Output",
                        total("llm_tokens_total", "tenant_id", "model", token_type="output"),
                        "short",
                        adds_up=True,
                    ),
                ],
                width=14,
            ),
        ],
    )


def _by_part() -> Row:
    return Row(
        "On what, for all tenants",
        [
            bar_gauge(
                "Parts of the bill",
                "What was paid for: input, output, reasoning, cache, images, tools?",
                Query(ranking(_PARTS, "part"), "{{part}}"),
                "currencyUSD",
            ),
            timeseries(
                "Saved by prompt caching, an hour",
                "Does caching pay? Reads save the difference to the plain input rate; writes may cost more than it.",
                [
                    Query(per_hour(_SAVED), "saved by reads"),
                    Query(per_hour(_SURCHARGE), "surcharge for writes"),
                ],
                "currencyUSD",
                width=16,
            ),
        ],
    )


def _uncertain() -> Row:
    return Row(
        "What is not known exactly, for all tenants",
        [
            stat(
                "Estimated",
                "Which share of the cost rests on an estimate?",
                Query(range_share(_ESTIMATED, of_all=_PARTS), "estimated"),
                "percentunit",
                limits=Limits(0.05, 0.2),
                height=7,
            ),
            bar_gauge(
                "Estimated, and why",
                "Why are dollars estimated: interrupted streams, answers without usage, media?",
                Query(ranking(_ESTIMATED, "reason"), "{{reason}}"),
                "currencyUSD",
                height=7,
            ),
            table(
                "Calls without a price",
                "Which calls are missing from the cost, in whole or in part? Add the rate of the model or unit to the "
                "file of custom rates.",
                {"model": "Model", "reason": "Reason"},
                [
                    Column(
                        "Calls",
                        f"{total('llm_unpriced_calls_total', 'model', 'reason')} > 0",
                        "count",
                        adds_up=True,
                    )
                ],
                height=7,
            ),
        ],
    )


def budget_use(*by: str) -> str:
    """Return the share of each budget that is used, or of the fullest one without ``by``; a budget of 0 is used up."""
    limit = selector("budget_limit_dollars")
    used = f"{selector('budget_spent_dollars')} / ({limit} > 0) or ({limit} == 0) + 1"
    return named(f"max by ({', '.join(by)}) ({used})", *by) if by else f"max({used})"


def _forecast() -> str:
    rest = f"(days_in_month(vector(time())) * 86400 - $__range_s) * on () ({pace(_PAID, '7d', _WEEK_SECONDS)})"
    old_enough = f"count(last_over_time({selector('eco2_callbacks_info')}[1d] offset 6d))"
    return f"(({or_zero(total(_PAID))}) + on () {rest}) and on () {old_enough}"
