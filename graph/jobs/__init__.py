"""Jobs: what they may contain, the queue that carries them, and their metrics."""

from __future__ import annotations

from graph.jobs.dead_letters import DeadLetter, list_dead_letters, replay_dead_letters
from graph.jobs.job import (
    MAX_BODY_BYTES,
    MAX_IMAGE_BYTES,
    MAX_MESSAGE_CHARS,
    Identifier,
    Image,
    Job,
    Message,
    UserId,
    describe_invalid,
)
from graph.jobs.metrics import DeadReason, JobMetrics
from graph.jobs.queue import JobQueue, QueueUnavailableError
from graph.jobs.rabbitmq import MAX_DELIVERIES, Delivery, OnMalformed, RabbitBroker, Verdict
from graph.jobs.settings import DEAD_QUEUE, EXCHANGE, QUEUE, QueueSettings, whole_number

__all__ = [
    "DEAD_QUEUE",
    "EXCHANGE",
    "MAX_BODY_BYTES",
    "MAX_DELIVERIES",
    "MAX_IMAGE_BYTES",
    "MAX_MESSAGE_CHARS",
    "QUEUE",
    "DeadLetter",
    "DeadReason",
    "Delivery",
    "Identifier",
    "Image",
    "Job",
    "JobMetrics",
    "JobQueue",
    "Message",
    "OnMalformed",
    "QueueSettings",
    "QueueUnavailableError",
    "RabbitBroker",
    "UserId",
    "Verdict",
    "describe_invalid",
    "list_dead_letters",
    "replay_dead_letters",
    "whole_number",
]
