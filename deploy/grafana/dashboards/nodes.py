"""The nodes dashboard: the graph's nodes, and their models, tools, retrievers and judges."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard, langsmith
from dashboards.panels import Column, Limits, Query, bar_gauge, p50_and_p95, stat, table, timeseries
from dashboards.promql import (
    mean,
    or_zero,
    per_minute,
    range_mean,
    range_quantile,
    range_share,
    ranking,
    selector,
    share,
    total,
)

__all__ = ["ERRORS", "UID", "nodes"]

UID: Final = "eco2-nodes"
ERRORS: Final = Limits(0.01, 0.05)

_RUNS: Final = "graph_node_runs_total"
_POOR_SCORE: Final = "0.6"  # below it, the graph adds a web search


def nodes() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Nodes",
        "The graph's nodes, and their models, tools, retrievers and judges.",
        [_summary(), _runs(), _models(), _subagents(), _tools(), _quality()],
        since="now-3h",
        refresh="30s",
    )


def _summary() -> Row:
    return Row(
        "In this range",
        [
            table(
                "Nodes",
                "Runs, errors, duration and cost by node. Click a node to open its runs in LangSmith.",
                {"node": "Node"},
                [
                    Column("Runs", total(_RUNS, "node"), "count"),
                    Column("Errors", range_share(_RUNS, "node", status="error"), "percentunit", ERRORS),
                    Column("p50", range_quantile(0.5, "graph_node_duration_seconds", "node"), "s"),
                    Column("p95", range_quantile(0.95, "graph_node_duration_seconds", "node"), "s"),
                    Column("Cost", total("graph_node_cost_dollars_total", "node"), "currencyUSD"),
                ],
                sort="p95",
                links={
                    "Node": langsmith(
                        "Runs in LangSmith",
                        'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__value.raw}"))',
                    )
                },
            ),
            table(
                "Model calls",
                "Calls, errors and cost. Click a node or intent to open its runs in LangSmith.",
                {"node": "Node", "intent": "Intent", "model": "Model"},
                [
                    Column("Calls", total("llm_calls_total", "node", "intent", "model"), "count"),
                    Column(
                        "Errors",
                        range_share("llm_calls_total", "node", "intent", "model", status="error"),
                        "percentunit",
                        ERRORS,
                    ),
                    Column("Cost", total("graph_node_cost_dollars_total", "node", "intent", "model"), "currencyUSD"),
                ],
                links={
                    "Node": langsmith(
                        "Runs of this node and intent in LangSmith",
                        'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__data.fields.Node}"), '
                        'has(tags, "intent:${__data.fields.Intent}"))',
                    ),
                    "Intent": langsmith("Requests of this intent in LangSmith", 'has(tags, "intent:${__value.raw}")'),
                },
            ),
        ],
    )


def _runs() -> Row:
    link = langsmith(
        "Runs in LangSmith", 'and(eq(metadata_key, "langgraph_node"), eq(metadata_value, "${__field.labels.node}"))'
    )
    return Row(
        "Runs",
        [
            timeseries(
                "Runs",
                "Runs per minute by node.",
                [Query(per_minute(_RUNS, "node"), "{{node}}")],
                "suffix:/min",
                stacked=True,
                link=link,
            ),
            timeseries(
                "Error rate",
                "Share of a node's runs that ended with an error. Interrupts and cancelled runs are not errors.",
                [Query(share(_RUNS, "node", status="error"), "{{node}}")],
                "percentunit",
                limits=ERRORS,
                link=link,
            ),
            timeseries(
                "Duration p50",
                "Half of a node's runs are faster.",
                p50_and_p95("graph_node_duration_seconds", "node")[:1],
                "s",
                link=link,
            ),
            timeseries(
                "Duration p95",
                "One run in 20 is slower. Objectives: intent 0.3 s, waste_rag 1 s.",
                p50_and_p95("graph_node_duration_seconds", "node")[1:],
                "s",
                exemplars=True,
                link=link,
            ),
            timeseries(
                "How runs end",
                "Runs per minute by status, all nodes together.",
                [Query(per_minute(_RUNS, "status"), "{{status}}")],
                "suffix:/min",
                stacked=True,
            ),
            timeseries(
                "Calls in one request",
                "Mean number of model calls and of tool calls. An endless loop shows here.",
                [
                    Query(mean("agent_llm_calls_per_request", "agent_name"), "{{agent_name}} models"),
                    Query(mean("agent_tool_calls_per_request", "agent_name"), "{{agent_name}} tools"),
                ],
                "short",
            ),
        ],
    )


def _models() -> Row:
    return Row(
        "Models",
        [
            timeseries(
                "Calls by model",
                "Model calls per minute, by the model that answered.",
                [Query(per_minute("llm_calls_total", "model"), "{{model}}")],
                "suffix:/min",
                stacked=True,
                width=8,
            ),
            timeseries(
                "Call duration",
                "Time from the start of a model call to its end.",
                p50_and_p95("llm_inference_duration_seconds", "model"),
                "s",
                exemplars=True,
                width=8,
            ),
            timeseries(
                "Failed calls",
                "Failed model calls by exception class and node, including calls that were retried.",
                [Query(per_minute("llm_errors_total", "error_type", "node"), "{{error_type}} in {{node}}")],
                "suffix:/min",
                width=8,
            ),
        ],
    )


def _subagents() -> Row:
    return Row(
        "Subagents",
        [
            timeseries(
                "Calls of subagents",
                "Runs per minute of the nodes that serve an intent.",
                [Query(per_minute("chat_subagent_calls_total", "subagent"), "{{subagent}}")],
                "suffix:/min",
                stacked=True,
                width=8,
                link=langsmith("Runs in LangSmith", 'has(tags, "subagent:${__field.labels.subagent}")'),
            ),
            timeseries(
                "Subagents p95",
                "One run in 20 is slower.",
                p50_and_p95("chat_subagent_duration_seconds", "subagent")[1:],
                "s",
                width=8,
            ),
            timeseries(
                "Error rate of subagents",
                "Share of a subagent's runs that ended with an error.",
                [Query(share("chat_subagent_calls_total", "subagent", status="error"), "{{subagent}}")],
                "percentunit",
                limits=ERRORS,
                width=8,
            ),
        ],
    )


def _tools() -> Row:
    return Row(
        "Tools",
        [
            timeseries(
                "Tool calls",
                "Calls per minute of the graph's own tools.",
                [Query(per_minute("tool_calls_total", "tool_name"), "{{tool_name}}")],
                "suffix:/min",
                stacked=True,
                width=6,
            ),
            timeseries(
                "Tools p95",
                "One call in 20 is slower.",
                p50_and_p95("tool_execution_duration_seconds", "tool_name")[1:],
                "s",
                width=6,
            ),
            timeseries(
                "Error rate of tools",
                "Share of a tool's calls that failed: its service is down, slow, or sends invalid answers.",
                [Query(share("tool_calls_total", "tool_name", status="error"), "{{tool_name}}")],
                "percentunit",
                limits=ERRORS,
                width=6,
            ),
            bar_gauge(
                "Tools of the providers",
                "Billed calls of the providers' own tools, such as web search.",
                Query(ranking("llm_server_tool_calls_total", "tool", "node"), "{{tool}} in {{node}}"),
                "count",
            ),
        ],
    )


def _quality() -> Row:
    poor = (
        f"sum by (key) (rate({selector('chat_feedback_score_bucket', le=_POOR_SCORE)}[$__rate_interval])) / "
        f"clamp_min(sum by (key) (rate({selector('chat_feedback_score_count')}[$__rate_interval])), 1e-9)"
    )
    return Row(
        "Retrieval and feedback",
        [
            timeseries(
                "Retrieval",
                "Time a retriever needs to find its passages.",
                p50_and_p95("retrieval_duration_seconds", "retriever"),
                "s",
                width=8,
            ),
            timeseries(
                "Scores",
                "Mean quality from 0 to 1, as scored by a judging node.",
                [Query(mean("chat_feedback_score", "key"), "{{key}}")],
                "short",
                max_value=1,
                width=6,
            ),
            timeseries(
                "Poor answers",
                f"Share of the scores of {_POOR_SCORE} or less. For these answers the graph adds a web search.",
                [Query(or_zero(poor, "key"), "{{key}}")],
                "percentunit",
                limits=Limits(0.2, 0.5),
                width=6,
            ),
            stat(
                "Mean score",
                "Of all scores in this range.",
                Query(range_mean("chat_feedback_score"), "score"),
                "short",
                limits=Limits(0.8, 0.6),
                height=8,
            ),
        ],
    )
