"""The streaming dashboard: number, speed and duration of streamed answers, and readers' recoveries."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard
from dashboards.panels import Limits, Query, bar_gauge, p50_and_p95, stat, timeseries
from dashboards.promql import gauge, per_minute, per_second, range_quantile, range_share, ranking, total

__all__ = ["UID", "streaming"]

UID: Final = "eco2-streaming"

_ENDS: Final = {"status": "success|error|cancelled"}  # "recovered" readers are counted in addition
_FAILED: Final = Limits(0.01, 0.05)
_PUBLISHING: Final = Limits(0.025, 0.05)  # the objective: 50 ms at p95


def streaming() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Token streaming",
        "Streamed answers, from the model to the reader.",
        [_now(), _tokens(), _streams(), _recovery()],
        since="now-1h",
        refresh="10s",
    )


def _now() -> Row:
    return Row(
        "Now, and in this range",
        [
            stat(
                "Active streams",
                "Streams open now, in all processes.",
                Query(gauge("chat_stream_active"), "active"),
                "count",
                sparkline=True,
            ),
            stat(
                "Tokens a second",
                "Chunks with content, as they arrive from the models.",
                Query(per_second("chat_stream_tokens_total"), "tokens"),
                "suffix: tok/s",
                sparkline=True,
            ),
            stat(
                "Publishing p95",
                "Time to publish one token. The objective is 50 ms.",
                Query(range_quantile(0.95, "chat_stream_token_latency_seconds"), "p95"),
                "s",
                limits=_PUBLISHING,
            ),
            stat(
                "First token p95",
                "Time from the start of a call to its first content.",
                Query(range_quantile(0.95, "llm_time_to_first_token_seconds"), "p95"),
                "s",
            ),
            stat(
                "Failed streams",
                "Share of the streams that ended with an error. Cancelled streams are not errors.",
                Query(range_share("chat_stream_requests_total", among=_ENDS, status="error"), "failed"),
                "percentunit",
                limits=_FAILED,
            ),
            stat(
                "Recovered",
                "Readers that lost a stream and resumed it.",
                Query(total("chat_stream_requests_total", status="recovered"), "recovered"),
                "count",
            ),
        ],
    )


def _tokens() -> Row:
    return Row(
        "Tokens",
        [
            timeseries(
                "Tokens a second",
                "Chunks with content, as they arrive from the models.",
                [Query(per_second("chat_stream_tokens_total", "node", only_nonzero=True), "{{node}}")],
                "suffix: tok/s",
                stacked=True,
            ),
            timeseries(
                "Publishing a token",
                "Time to publish one token, such as a Redis XADD. The objective is 50 ms at p95.",
                p50_and_p95("chat_stream_token_latency_seconds", "node"),
                "s",
                limits=_PUBLISHING,
            ),
            timeseries(
                "Time to first token",
                "Time from the start of a call to its first content. A reader waits this long.",
                p50_and_p95("llm_time_to_first_token_seconds", "node"),
                "s",
                exemplars=True,
            ),
            timeseries(
                "Between two tokens",
                "Pause between two tokens. From about 0.2 s a reader notices it.",
                p50_and_p95("chat_stream_token_interval_seconds", "provider"),
                "s",
                limits=Limits(0.2, 0.5),
            ),
        ],
    )


def _streams() -> Row:
    return Row(
        "Streams",
        [
            timeseries(
                "Active streams over time",
                "Streams open at the same time, in all processes.",
                [Query(gauge("chat_stream_active"), "active")],
                "count",
            ),
            timeseries(
                "How streams end",
                "Streams per minute by status. 'recovered' counts readers that came back, whatever the result.",
                [Query(per_minute("chat_stream_requests_total", "status"), "{{status}}")],
                "suffix:/min",
            ),
            timeseries(
                "Duration",
                "Time from the start of a streamed call to its end, for successful calls.",
                p50_and_p95("chat_stream_duration_seconds", "node", status="success"),
                "s",
                exemplars=True,
            ),
            timeseries(
                "Tokens in a stream",
                "Chunks with content in one stream.",
                p50_and_p95("chat_stream_token_count", "node"),
                "suffix: tokens",
            ),
        ],
    )


def _recovery() -> Row:
    recovery = "chat_stream_recovery_total"
    return Row(
        "Recovery",
        [
            timeseries(
                "Recoveries",
                "Readers that came back, counted by the server that serves them (stream_metrics.recovered). catch_up "
                "replays the missed tokens; snapshot sends the answer so far.",
                [Query(per_minute(recovery, "type", "status"), "{{type}} {{status}}")],
                "suffix:/min",
            ),
            bar_gauge(
                "Recoveries in this range",
                "Number of recoveries by type and status.",
                Query(ranking(recovery, "type", "status"), "{{type}} {{status}}"),
                "count",
                width=8,
            ),
            stat(
                "Failed recoveries",
                "Share of the recoveries that failed. These readers did not see the end of their answer.",
                Query(range_share(recovery, status="error"), "failed"),
                "percentunit",
                limits=_FAILED,
                height=8,
            ),
        ],
    )
