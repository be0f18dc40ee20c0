"""The dashboard of the queue and of streamed answers: from a question's acceptance to its last token."""

from __future__ import annotations

from typing import Final

from dashboards.dashboard import Row, dashboard
from dashboards.overview import ON_TIME
from dashboards.panels import Query, p95, stat, timeseries
from dashboards.promql import gauge, per_minute, range_quantile, range_within, selector, within
from dashboards.styles import Limits

__all__ = ["UID", "streaming"]

UID: Final = "eco2-streaming"

_TURNAROUND: Final = "chat_turnaround_seconds"
_WAIT: Final = "chat_job_wait_seconds"
_FIRST_TOKEN: Final = "llm_time_to_first_token_seconds"  # noqa: S105  a metric
_PUBLISHING: Final = Limits(0.025, 0.05)  # the objective: 50 ms at p95


def streaming() -> str:
    """Return the dashboard's JSON."""
    return dashboard(
        UID,
        "Eco2 Queue and streaming",
        "Answers as their readers see them: waiting in the queue, the first token, the stream, its end.",
        [_now(), _queue(), _streams()],
        filters=["node", "target"],
        since="now-1h",
        refresh="10s",
    )


def _now() -> Row:
    return Row(
        "Now, and in this range",
        [
            stat(
                "Jobs waiting",
                "How many jobs has no worker taken yet?",
                # API and workers read the same queue.
                Query(f"max({selector('chat_jobs_waiting')})", "waiting"),
                "count",
                sparkline=True,
                no_value="no queue",
                width=8,
            ),
            stat(
                "Within the target",
                "Which share of the answers took at most the target, from the question on? This share is exact.",
                Query(range_within(_TURNAROUND), "within"),
                "percentunit",
                limits=ON_TIME,
                no_value="no answer",
                width=8,
            ),
            stat(
                "First token p95",
                "How long does a reader wait for the first token, after a worker took the job?",
                Query(range_quantile(0.95, _FIRST_TOKEN), "p95"),
                "s",
                no_value="no stream",
                width=8,
            ),
        ],
    )


def _queue() -> Row:
    return Row(
        "Queue and turnaround",
        [
            timeseries(
                "Queue and slots",
                "Is there room? Jobs wait while all slots of the workers are busy.",
                [
                    Query(f"max({selector('chat_jobs_waiting')})", "waiting"),
                    Query(gauge("chat_worker_slots_busy"), "busy slots"),
                    Query(gauge("chat_worker_slots"), "slots"),
                ],
                "count",
                width=8,
            ),
            timeseries(
                "Waiting for a worker p95",
                "How long do jobs wait? One job in 20 waits longer.",
                [p95(_WAIT, "queue")],
                "s",
                width=8,
            ),
            timeseries(
                "Answers within the target, by intent",
                "Which share of an intent's answers took at most the target, from the question on? Exact.",
                [Query(within(_TURNAROUND, "intent"), "{{intent}}")],
                "percentunit",
                max_value=1,
                width=8,
            ),
        ],
    )


def _streams() -> Row:
    return Row(
        "Streams",
        [
            timeseries(
                "Time to first token p95",
                "Which node lets readers wait? One call in 20 is slower. Dots are single calls.",
                [p95(_FIRST_TOKEN, "node")],
                "s",
                exemplars=True,
            ),
            timeseries(
                "Publishing a token p95",
                "Is the way to the readers slow, such as Redis? The objective is 50 ms.",
                [p95("chat_stream_token_latency_seconds", "node")],
                "s",
                limits=_PUBLISHING,
            ),
            timeseries(
                "How streams end",
                "How many streams a minute, and how do they end? 'recovered' counts readers that came back.",
                [Query(per_minute("chat_stream_requests_total", "status"), "{{status}}")],
                "suffix:/min",
            ),
            timeseries(
                "Lost jobs and readers",
                "How many jobs died or ran twice, and how many readers came back, a minute?",
                [
                    Query(per_minute("chat_jobs_dead_total"), "dead jobs"),
                    Query(per_minute("chat_job_redeliveries_total"), "redelivered jobs"),
                    Query(per_minute("chat_stream_recovery_total", "type", "status"), "{{type}} {{status}}"),
                ],
                "suffix:/min",
            ),
        ],
    )
