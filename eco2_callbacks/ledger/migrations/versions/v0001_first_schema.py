"""The ledger's first schema.

Revision ID: 0001
Revises: None
"""

from __future__ import annotations

from eco2_callbacks.ledger.columns import parse_columns
from eco2_callbacks.ledger.migrations.ddl import create_index, create_newest_view, create_table

__all__ = ["branch_labels", "depends_on", "down_revision", "downgrade", "revision", "upgrade"]

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Name, columns, key, and the column whose month is the partition. Written out: later schemas change nothing here.
_TABLES: tuple[tuple[str, str, tuple[str, ...], str | None], ...] = (
    (
        "calls",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, parent_run_id "
            "uuid?, series int, node code, purpose code?, provider code, model code, request_model code, "
            "operation code, status code, error_type code?, duration_seconds float, retry code?, rate_limited "
            "bool, time_to_first_token_seconds float?, streamed bool, streamed_tokens int, input_tokens int?, "
            "output_tokens int?, cache_read_tokens int?, cache_creation_tokens int?, cache_creation_5m_tokens "
            "int?, cache_creation_1h_tokens int?, reasoning_tokens int?, input_audio_tokens int?, "
            "cache_read_audio_tokens int?, output_audio_tokens int?, output_image_tokens int?, citation_tokens "
            "int?, images int?, web_searches int?, x_searches int?, web_fetches int?, file_searches int?, "
            "attachment_searches int?, code_interpreter_sessions int?, code_executions int?, image_generations "
            "int?, maps_groundings int?, image_sizes json?, estimated bool, estimate_reason code?, "
            "unpriced_reason code?, cost_source code, estimator code?, service_tier code?, from_cache bool, "
            "response_id text?, tags json, seconds_bucket int, otel_trace_id text?, otel_span_id text?"
        ),
        ("started_at", "run_id"),
        "started_at",
    ),
    (
        "ratings",
        (
            "started_at time, run_id uuid, computed_at time, price_version code, rates json?, currency code, "
            "list_cost money?, discount money?, contracted_cost money?, parts json, cache_savings money, "
            "cache_surcharge money, cost_bucket int?"
        ),
        ("started_at", "run_id", "computed_at"),
        "started_at",
    ),
    (
        "node_runs",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, node code, step "
            "int?, parallel bool, status code, error_type code?, duration_seconds float, input_tokens int, "
            "output_tokens int, cost money, estimated bool, unpriced_calls int, otel_trace_id text?, otel_span_id "
            "text?"
        ),
        ("started_at", "run_id"),
        "started_at",
    ),
    (
        "tool_calls",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, tool_name code, "
            "node code, status code, error_type code?, duration_seconds float, otel_trace_id text?, otel_span_id "
            "text?"
        ),
        ("started_at", "run_id"),
        "started_at",
    ),
    (
        "retriever_calls",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, retriever code, "
            "node code, status code, error_type code?, duration_seconds float, otel_trace_id text?, otel_span_id "
            "text?"
        ),
        ("started_at", "run_id"),
        "started_at",
    ),
    (
        "requests",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, status code, "
            "error_type code?, duration_seconds float, resumed bool, provider code, model code, llm_calls int, "
            "tool_calls int, input_tokens int, output_tokens int, cost money, estimated bool, unpriced_calls int, "
            "tags json, otel_trace_id text?, otel_span_id text?"
        ),
        ("started_at", "run_id"),
        "started_at",
    ),
    (
        "feedback",
        (
            "started_at time, run_id uuid, trace_id uuid, tenant_id code, user_id text?, session_id text?, job_id "
            "text?, feature code?, prompt_version code?, agent_name code, path code, intent code, node code, "
            "score_key code, score float"
        ),
        ("started_at", "run_id", "score_key"),
        "started_at",
    ),
    (
        "series",
        (
            "id int, tenant_id code, feature code, prompt_version code, agent_name code, path code, intent code, "
            "node code, purpose code, provider code, model code"
        ),
        ("id",),
        None,
    ),
    (
        "changed_hours",
        ("hour time, mark text"),
        ("hour", "mark"),
        "hour",
    ),
    (
        "rolled_hours",
        ("hour time, build text, built_at time"),
        ("hour", "build"),
        "hour",
    ),
    (
        "hourly_calls",
        (
            "hour time, series int, build text, calls int, errors int, input_tokens int, output_tokens int, "
            "cache_read_tokens int, reasoning_tokens int, cost money, cache_savings money, "
            "cache_surcharge money, estimated_cost money, unpriced_calls int, seconds float"
        ),
        ("hour", "series", "build"),
        "hour",
    ),
    (
        "hourly_histograms",
        ("hour time, series int, build text, measure code, bucket int, calls int"),
        ("hour", "series", "build", "measure", "bucket"),
        "hour",
    ),
    (
        "hourly_requests",
        (
            "hour time, tenant_id code, feature code, prompt_version code, agent_name code, path code, intent "
            "code, build text, requests int, successful int, seconds float"
        ),
        ("hour", "tenant_id", "feature", "prompt_version", "agent_name", "path", "intent", "build"),
        "hour",
    ),
)


def upgrade() -> None:
    """Create the tables and the view."""
    for name, columns, key, time_column in _TABLES:
        is_partitioned = time_column == "started_at"
        create_table(name, parse_columns(columns), key, time_column=time_column, is_partitioned=is_partitioned)
    create_index("requests_by_trace", "requests", "trace_id")
    create_index("requests_by_job", "requests", "job_id")
    ratings = next(columns for name, columns, _, _ in _TABLES if name == "ratings")
    create_newest_view(
        "newest_ratings",
        "ratings",
        [column.name for column in parse_columns(ratings)],
        ("started_at", "run_id"),
        "computed_at",
    )


def downgrade() -> None:
    """Refuse: a ledger is never dropped by a migration."""
    raise NotImplementedError("The first schema has none before it; delete the database to drop a ledger.")
