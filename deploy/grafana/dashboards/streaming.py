"""The dashboard of streamed answers: how many, how fast, how long, and who lost one."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard
from dashboards.panels import Limits, Query, bar_gauge, p50_and_p95, stat, timeseries
from dashboards.promql import gauge, per_minute, per_second, range_quantile, range_share, ranking, total

__all__ = ["UID", "streaming"]

UID: Final = "eco2-streaming"

_ENDS: Final = {"status": "success|error|cancelled"}  # a reader who came back is counted beside them
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
                "Chunks with content, as they come from the models.",
                Query(per_second("chat_stream_tokens_total"), "tokens"),
                "suffix: tok/s",
                sparkline=True,
            ),
            stat(
                "Publishing p95",
                "Time to hand one token on; the objective is 50 ms.",
                Query(range_quantile(0.95, "chat_stream_token_latency_seconds"), "p95"),
                "s",
                limits=_PUBLISHING,
            ),
            stat(
                "First token p95",
                "From a call's start to its first content.",
                Query(range_quantile(0.95, "llm_time_to_first_token_seconds"), "p95"),
                "s",
            ),
            stat(
                "Failed streams",
                "Share of the streams that ended with an error; one that its reader cancelled is no error.",
                Query(range_share("chat_stream_requests_total", among=_ENDS, status="error"), "failed"),
                "percentunit",
                limits=_FAILED,
            ),
            stat(
                "Recovered",
                "Readers that lost a stream and took it up again.",
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
                "Chunks with content, as they come from the models.",
                [Query(per_second("chat_stream_tokens_total", "node", only_nonzero=True), "{{node}}")],
                "suffix: tok/s",
                stacked=True,
            ),
            timeseries(
                "Publishing a token",
                "Time to hand one token on, as a Redis XADD; the objective is 50 ms at p95.",
                p50_and_p95("chat_stream_token_latency_seconds", "node"),
                "s",
                limits=_PUBLISHING,
            ),
            timeseries(
                "Time to first token",
                "From a call's start to its first content: what a reader waits for.",
                p50_and_p95("llm_time_to_first_token_seconds", "node"),
                "s",
                exemplars=True,
            ),
            timeseries(
                "Between two tokens",
                "How evenly an answer flows: from about 0.2 s on a reader sees it halt.",
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
                "Streams open at once, in all processes.",
                [Query(gauge("chat_stream_active"), "active")],
                "count",
            ),
            timeseries(
                "How streams end",
                "How many a minute; recovered are readers that came back, whatever became of their stream.",
                [Query(per_minute("chat_stream_requests_total", "status"), "{{status}}")],
                "suffix:/min",
            ),
            timeseries(
                "Duration",
                "From a streamed call's start to its end, of those that ended well.",
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
                "Readers that came back, counted where they are served (stream_metrics.recovered): catch_up replays "
                "what they missed, snapshot is the answer so far.",
                [Query(per_minute(recovery, "type", "status"), "{{type}} {{status}}")],
                "suffix:/min",
            ),
            bar_gauge(
                "Recoveries in this range",
                "The same, counted.",
                Query(ranking(recovery, "type", "status"), "{{type}} {{status}}"),
                "count",
                width=8,
            ),
            stat(
                "Failed recoveries",
                "Share of the recoveries that failed: readers who never saw the end of their answer.",
                Query(range_share(recovery, status="error"), "failed"),
                "percentunit",
                limits=_FAILED,
                height=8,
            ),
        ],
    )
