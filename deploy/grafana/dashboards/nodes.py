"""The dashboard of agents and nodes: where money and time go, with their models, tools and judges."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard, langsmith
from dashboards.overview import ERRORS
from dashboards.panels import Query, bar_gauge, dollars_an_hour, p95, timeseries
from dashboards.promql import (
    mean,
    range_quantile,
    range_share,
    ranking,
    share,
    total,
)
from dashboards.tables import Column, table

__all__ = ["UID", "nodes"]

UID: Final = "eco2-nodes"

_RUNS: Final = "graph_node_runs_total"
_SPENT: Final = "graph_node_cost_dollars_total"
_TOKENS: Final = "graph_node_tokens_total"
_CALLS: Final = "llm_calls_total"
_SECONDS: Final = "graph_node_duration_seconds"
_OF_NODE: Final = langsmith(
    "Runs in LangSmith", 'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__field.labels.node}"))'
)
_OF_AGENT: Final = langsmith("Runs in LangSmith", 'has(tags, "agent:${__value.raw}")')


def nodes() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Agents and nodes",
        "Where money and time go: agents and their nodes, with their models, tools, retrievers and judges.",
        [_summary(), _cost(), _runs(), _models(), _tools()],
        filters=["agent", "node"],
        since="now-3h",
        refresh="30s",
    )


def _summary() -> Row:
    return Row(
        "In this range",
        [
            table(
                "Agents",
                "What does each agent cost, and how often does it fail? Click an agent to open its runs in LangSmith.",
                {"agent_name": "Agent"},
                [
                    Column("Cost", total(_SPENT, "agent_name"), "currencyUSD", adds_up=True),
                    Column("Calls", total(_CALLS, "agent_name"), "count", adds_up=True),
                    Column("Input", total(_TOKENS, "agent_name", token_type="input"), "short", adds_up=True),
                    Column("Output", total(_TOKENS, "agent_name", token_type="output"), "short", adds_up=True),
                    Column("Failed runs", range_share(_RUNS, "agent_name", status="error"), "percentunit", ERRORS),
                ],
                links={"Agent": _OF_AGENT},
                height=7,
                width=24,
            ),
            table(
                "Nodes",
                "What does each node cost, how long does it take, and how often does it fail? Click a node to open its "
                "runs in LangSmith.",
                {"agent_name": "Agent", "node": "Node"},
                [
                    Column("Cost", total(_SPENT, "agent_name", "node"), "currencyUSD", adds_up=True),
                    Column("Runs", total(_RUNS, "agent_name", "node"), "count", adds_up=True),
                    Column("Failed", range_share(_RUNS, "agent_name", "node", status="error"), "percentunit", ERRORS),
                    Column("p50", range_quantile(0.5, _SECONDS, "agent_name", "node"), "s"),
                    Column("p95", range_quantile(0.95, _SECONDS, "agent_name", "node"), "s"),
                ],
                links={
                    "Node": langsmith(
                        "Runs in LangSmith",
                        'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__value.raw}"))',
                    )
                },
                height=15,
                width=24,
            ),
        ],
    )


def _cost() -> Row:
    return Row(
        "Cost",
        [
            dollars_an_hour(_SPENT, "agent_name", of="agent", who="Which agent"),
            dollars_an_hour(_SPENT, "node", of="node", who="Which node", link=_OF_NODE),
        ],
    )


def _runs() -> Row:
    return Row(
        "Runs",
        [
            timeseries(
                "Error rate",
                "Which node fails? Interrupts and cancelled runs are not errors.",
                [Query(share(_RUNS, "node", status="error"), "{{node}}")],
                "percentunit",
                limits=ERRORS,
                link=_OF_NODE,
                width=8,
            ),
            timeseries(
                "Duration p95",
                "Which node is slow? One run in 20 is slower. Dots are single runs.",
                [p95(_SECONDS, "node")],
                "s",
                exemplars=True,
                link=_OF_NODE,
                width=8,
            ),
            timeseries(
                "Model calls in one request",
                "Does an agent loop? Mean number of model calls.",
                [Query(mean("agent_llm_calls_per_request", "agent_name"), "{{agent_name}}")],
                "short",
                width=8,
            ),
        ],
    )


def _models() -> Row:
    seconds = "llm_inference_duration_seconds"
    return Row(
        "Models",
        [
            table(
                "Model calls",
                "How do models serve the nodes? Retries include fallbacks; limited calls were answered with 429.",
                {"provider": "Provider", "model": "Model"},
                [
                    Column("Calls", total(_CALLS, "provider", "model"), "count", adds_up=True),
                    Column("Failed", range_share(_CALLS, "provider", "model", status="error"), "percentunit", ERRORS),
                    Column("Retries", total("llm_retries_total", "provider", "model"), "count", adds_up=True),
                    Column("Limited", total("llm_rate_limit_errors_total", "provider", "model"), "count", adds_up=True),
                    Column("p95", range_quantile(0.95, seconds, "provider", "model"), "s"),
                ],
                height=7,
                width=24,
            ),
            bar_gauge(
                "Failed calls",
                "With which exceptions do model calls fail, and in which node? Calls that were retried count too.",
                Query(ranking("llm_errors_total", "error_type", "node", limit=5), "{{error_type}} in {{node}}"),
                "count",
                height=6,
                width=12,
            ),
            bar_gauge(
                "Tools of the providers",
                "Which billed tools of the providers were called, such as web search?",
                Query(ranking("llm_server_tool_calls_total", "tool", "node"), "{{tool}} in {{node}}"),
                "count",
                height=6,
                width=12,
            ),
        ],
    )


def _tools() -> Row:
    return Row(
        "Tools and quality",
        [
            table(
                "Tools",
                "How well do the tools serve? A failed call: its service is down, slow, or sends invalid answers.",
                {"tool_name": "Tool"},
                [
                    Column("Calls", total("tool_calls_total", "tool_name"), "count", adds_up=True),
                    Column(
                        "Failed", range_share("tool_calls_total", "tool_name", status="error"), "percentunit", ERRORS
                    ),
                    Column("p95", range_quantile(0.95, "tool_execution_duration_seconds", "tool_name"), "s"),
                ],
                width=8,
            ),
            timeseries(
                "Retrieval p95",
                "How long does a retriever search? One retrieval in 20 takes longer.",
                [p95("retrieval_duration_seconds", "retriever")],
                "s",
                width=8,
            ),
            timeseries(
                "Scores",
                "How good are the answers? Mean score of each judge, from 0 to 1.",
                [Query(mean("chat_feedback_score", "key"), "{{key}}")],
                "short",
                max_value=1,
                width=8,
            ),
        ],
    )
