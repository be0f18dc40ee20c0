"""The metrics of jobs."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, generate_latest

from graph.jobs import JobMetrics


def test_a_fresh_process_shows_every_family(registry: CollectorRegistry) -> None:
    """Closed label sets begin at 0, so that a ratio is 0 and not missing; no sample is ``_created``."""
    JobMetrics(registry, slots=40)

    text = generate_latest(registry).decode()

    for line in (
        'chat_jobs_waiting{queue="chat.process"} 0.0',
        'chat_job_wait_seconds_count{queue="chat.process"} 0.0',
        'chat_jobs_dead_total{queue="chat.process",reason="malformed"} 0.0',
        'chat_jobs_dead_total{queue="chat.process",reason="poison"} 0.0',
        'chat_jobs_dead_total{queue="chat.process",reason="expired"} 0.0',
        'chat_job_redeliveries_total{queue="chat.process"} 0.0',
        'chat_queue_mismatches_total{queue="chat.process"} 0.0',
        "chat_worker_slots 40.0",
        "chat_worker_slots_busy 0.0",
        "chat_ready 0.0",
        "# TYPE chat_turnaround_seconds histogram",
    ):
        assert f"{line}\n" in text
    assert "_created" not in text


def test_one_request_of_5262_ms_is_below_6_seconds(registry: CollectorRegistry) -> None:
    """The buckets are fine where the objectives lie: 5.262 s is not shown as 9.75 s."""
    JobMetrics(registry).ended("waste", "success", 5.262)

    def bucket(bound: str) -> float | None:
        labels = {"intent": "waste", "status": "success", "le": bound}
        return registry.get_sample_value("chat_turnaround_seconds_bucket", labels)

    assert (bucket("5.0"), bucket("6.0")) == (0, 1)
