"""The defaults that the help names, and the queries that the demo prints."""

from __future__ import annotations

__all__ = ["LEDGER", "PORT", "QUERIES"]

LEDGER = "eco2.db"
PORT = 9464  # the default port of OpenTelemetry's Prometheus exporters
QUERIES = (
    ("dollars by node", "sum by (node) (graph_node_cost_dollars_total)"),
    ("dollars by model", "sum by (model) (llm_cost_dollars_total)"),
    ("dollars by intent", "sum by (intent) (chat_request_cost_dollars_sum)"),
    ("tokens by node", "sum by (node, token_type) (graph_node_tokens_total)"),
    (
        "seconds by node",
        "sum by (node) (graph_node_duration_seconds_sum) / sum by (node) (graph_node_duration_seconds_count)",
    ),
)
