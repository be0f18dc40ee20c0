"""The metric contract: name, type, labels, help and buckets of every family."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["BUDGET_FAMILIES", "CLOSED_LABELS", "FAMILIES", "Family"]


class Family(NamedTuple):
    """One metric family; ``is_setting`` marks a gauge that worker processes share, such as a setting: no sum counts."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()
    is_setting: bool = False


_NODE_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.3, 0.5, 0.75, 1, 1.5, 2, 3, 5, 7.5, 10, 15, 20, 30, 60)
_WHERE = ("node", "provider", "model")
_SPENT = ("node", "agent_name", "intent", "provider", "model")
# Labels whose values are ours to choose; every other one is free, and bounded.
CLOSED_LABELS = frozenset(
    {"callback", "direction", "kind", "label", "modality", "part", "prices_version", "reason", "status", "token_type"}
    | {"tool", "type", "version"}
)

FAMILIES: tuple[Family, ...] = (
    Family("llm_calls_total", "counter", (*_SPENT, "status"), "Model calls."),
    Family(
        "llm_tokens_total",
        "counter",
        ("provider", "model", "tenant_id", "token_type"),
        "Tokens by who paid: input (cached ones inside) and output (reasoning inside).",
    ),
    Family("llm_cost_dollars_total", "counter", ("provider", "model", "tenant_id"), "US dollars by who paid."),
    Family(
        "graph_node_tokens_total",
        "counter",
        (*_SPENT, "token_type"),
        "The same tokens by where they were spent.",
    ),
    Family(
        "graph_node_cost_dollars_total",
        "counter",
        _SPENT,
        "The same US dollars by where they were spent.",
    ),
    Family(
        "llm_cached_tokens_total",
        "counter",
        (*_WHERE, "kind"),
        "Input tokens read from or written to the provider's prompt cache; a part of input.",
    ),
    Family("llm_reasoning_tokens_total", "counter", _WHERE, "Reasoning tokens; a part of output."),
    Family(
        "llm_media_tokens_total",
        "counter",
        (*_WHERE, "direction", "modality"),
        "Audio, image and video tokens, as far as the message tells; a part of input or output.",
    ),
    Family("llm_images_total", "counter", (*_WHERE, "size"), "Images generated."),
    Family(
        "llm_cost_parts_dollars_total",
        "counter",
        ("provider", "model", "part"),
        "US dollars by what was billed; the parts sum to the cost.",
    ),
    Family(
        "llm_estimated_cost_dollars_total",
        "counter",
        ("provider", "model", "reason"),
        "US dollars of calls whose cost rests on an estimate; a part of the cost.",
    ),
    Family(
        "llm_cache_savings_dollars_total",
        "counter",
        ("provider", "model"),
        "US dollars that prompt-cache reads saved, compared with the plain input rate.",
    ),
    Family(
        "llm_cache_surcharge_dollars_total",
        "counter",
        ("provider", "model"),
        "US dollars that prompt-cache writes cost above the plain input rate.",
    ),
    Family(
        "llm_unpriced_calls_total",
        "counter",
        ("provider", "model", "reason"),
        "Calls whose cost is unknown or lacks a unit: no price, no usage, or a counted unit without a rate.",
    ),
    Family(
        "llm_server_tool_calls_total",
        "counter",
        (*_WHERE, "tool"),
        "Billed calls of the provider's own tools.",
    ),
    Family(
        "llm_cache_hits_total",
        "counter",
        _WHERE,
        "Answers from LangChain's LLM cache; their tokens and cost are not counted again.",
    ),
    Family("llm_retries_total", "counter", (*_WHERE, "reason"), "Model calls that repeat a failed one."),
    Family("llm_errors_total", "counter", (*_WHERE, "error_type"), "Failed model calls by exception class."),
    Family(
        "llm_rate_limit_errors_total", "counter", ("provider", "model"), "Model calls the provider answered with 429."
    ),
    Family(
        "llm_inference_duration_seconds",
        "histogram",
        _WHERE,
        "Seconds from a model call's start to its end.",
        (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, 120),
    ),
    Family(
        "llm_time_to_first_token_seconds",
        "histogram",
        _WHERE,
        "Seconds from a streamed model call's start to its first content.",
        (0.05, 0.1, 0.25, 0.5, 0.75, 1, 2, 5, 10, 30),
    ),
    Family("chat_stream_tokens_total", "counter", ("node", "status"), "Streamed chunks with content, as they come."),
    Family("chat_stream_requests_total", "counter", ("status",), "Streams that ended, and those taken up again."),
    Family(
        "chat_stream_token_latency_seconds",
        "histogram",
        ("node",),
        "Seconds that a publisher took to hand one token on.",
        (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
    ),
    Family(
        "chat_stream_token_interval_seconds",
        "histogram",
        ("provider",),
        "Seconds between two streamed chunks with content.",
        (0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1),
    ),
    Family(
        "chat_stream_duration_seconds",
        "histogram",
        ("node", "status"),
        "Seconds from a streamed model call's start to its end.",
        (0.5, 1, 2, 5, 10, 20, 30, 60),
    ),
    Family(
        "chat_stream_token_count",
        "histogram",
        ("node",),
        "Chunks with content in one stream.",
        (10, 50, 100, 200, 500, 1000, 2000),
    ),
    Family(
        "chat_stream_recovery_total", "counter", ("type", "status"), "Readers that lost a stream and took it up again."
    ),
    Family("chat_stream_active", "gauge", (), "Streams open now."),
    Family(
        "chat_requests_total", "counter", ("intent", "status", "provider"), "Requests: root runs of a graph or chain."
    ),
    Family(
        "chat_request_duration_seconds",
        "histogram",
        ("intent", "provider"),
        "Seconds from a request's start to its end.",
        (0.1, 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 10, 12.5, 15, 20, 30, 45, 60, 120),
    ),
    Family("chat_requests_resumed_total", "counter", ("intent",), "Requests that continue an interrupted one."),
    Family(
        "chat_request_cost_dollars",
        "histogram",
        ("intent",),
        "US dollars of one request.",
        (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
    ),
    Family("chat_intent_total", "counter", ("intent",), "Finished requests by intent."),
    Family("chat_errors_total", "counter", ("intent", "error_type"), "Failed requests by exception class."),
    Family("graph_node_runs_total", "counter", ("node", "agent_name", "status"), "Runs of a graph's nodes."),
    Family(
        "graph_node_duration_seconds",
        "histogram",
        ("node", "agent_name"),
        "Seconds of one run of a node.",
        _NODE_SECONDS,
    ),
    Family(
        "chat_subagent_calls_total",
        "counter",
        ("subagent", "status"),
        "Runs of the nodes and agents named as subagents.",
    ),
    Family(
        "chat_subagent_duration_seconds", "histogram", ("subagent",), "Seconds of one run of a subagent.", _NODE_SECONDS
    ),
    Family(
        "agent_request_duration_seconds",
        "histogram",
        ("agent_name", "model", "tenant_id"),
        "Seconds of one request of an agent.",
        (0.1, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60),
    ),
    Family("agent_errors_total", "counter", ("agent_name", "error_type", "tenant_id"), "Failed requests of an agent."),
    Family("agent_active_sessions", "gauge", ("agent_name", "tenant_id"), "Requests open now."),
    Family(
        "agent_llm_calls_per_request",
        "histogram",
        ("agent_name",),
        "Model calls in one request.",
        (1, 2, 3, 5, 8, 13, 21),
    ),
    Family(
        "agent_tool_calls_per_request",
        "histogram",
        ("agent_name",),
        "Tool calls in one request.",
        (0, 1, 2, 3, 5, 8, 13),
    ),
    Family(
        "tool_execution_duration_seconds",
        "histogram",
        ("tool_name", "agent_name"),
        "Seconds of one tool call.",
        (0.01, 0.05, 0.1, 0.5, 1, 5, 10),
    ),
    Family("tool_calls_total", "counter", ("tool_name", "agent_name", "status"), "Tool calls."),
    Family(
        "retrieval_duration_seconds",
        "histogram",
        ("retriever", "node"),
        "Seconds of one retrieval.",
        (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2, 5),
    ),
    Family(
        "chat_feedback_score",
        "histogram",
        ("node", "key"),
        "Quality scores that a node returned, 0 to 1.",
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
    ),
    Family(
        "tenant_monthly_budget_usd",
        "gauge",
        ("tenant_id",),
        "US dollars a tenant may spend in a month.",
        is_setting=True,
    ),
    Family(
        "tenant_daily_budget_usd", "gauge", ("tenant_id",), "US dollars a tenant may spend in a day.", is_setting=True
    ),
    Family(
        "eco2_callbacks_info", "gauge", ("version", "prices_version"), "1, with the versions in use.", is_setting=True
    ),
    Family("eco2_callbacks_errors_total", "counter", ("callback",), "Exceptions inside the handler, by callback."),
    Family("eco2_callbacks_open_runs", "gauge", (), "Runs between their start and their end."),
    Family(
        "eco2_callbacks_evicted_runs_total",
        "counter",
        (),
        "Runs closed as too many were open, or one for too long.",
    ),
    Family(
        "eco2_callbacks_label_overflow_total",
        "counter",
        ("label",),
        "Label values replaced by 'other': past the cap, or a text.",
    ),
    Family(
        "eco2_callbacks_prices_age_seconds",
        "gauge",
        (),
        "Age of the price data in use.",
        is_setting=True,
    ),
)

# Exposed once there are budgets. Their labels are names of rules, as many as the application writes.
BUDGET_FAMILIES: tuple[Family, ...] = (
    Family(
        "budget_limit_dollars",
        "gauge",
        ("budget", "window"),
        "US dollars that a budget allows in its window, with temporary raises.",
        is_setting=True,
    ),
    Family(
        "budget_spent_dollars",
        "gauge",
        ("budget", "window"),
        "US dollars settled and reserved in the current window; of a rule with per, the highest of its scopes.",
        is_setting=True,
    ),
    Family("budget_refused_calls_total", "counter", ("budget",), "Model calls that a budget refused."),
)
