"""Where jobs and their streams are kept, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from graph.errors import GraphConfigError

__all__ = ["DEAD_QUEUE", "EXCHANGE", "QUEUE", "QueueSettings", "whole_number"]

EXCHANGE = "chat_tasks"
QUEUE = "chat.process"
DEAD_QUEUE = "chat.process.dead"
_SCHEMES = {
    "ECO2_REDIS_URL": (
        ("redis://", "rediss://", "unix://"),
        "'redis://host:port/database', 'rediss://...' or 'unix://...'",
    ),
    "ECO2_AMQP_URL": (("amqp://", "amqps://"), "'amqp://user:password@host:port/vhost' or 'amqps://...'"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    """Where jobs and streams are kept. The URLs may hold passwords and are not shown.

    Attributes:
        redis_url: Redis of job state and streams, ``ECO2_REDIS_URL``; ``""`` keeps them in the process.
        amqp_url: RabbitMQ of the jobs, ``ECO2_AMQP_URL``; ``""`` keeps them in the process.
        keep_seconds: How long a job and its stream are kept after the last write, ``ECO2_JOB_KEEP_SECONDS``. Longer
            than a job may wait.
        max_waiting: The most jobs that wait; more are refused, ``ECO2_MAX_WAITING_JOBS``.
        max_wait_seconds: A job that waited longer is not run any more, ``ECO2_JOB_MAX_WAIT_SECONDS``.
    """

    redis_url: str = field(default="", repr=False)
    amqp_url: str = field(default="", repr=False)
    keep_seconds: int = 3600
    max_waiting: int = 10_000
    max_wait_seconds: int = 900

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> QueueSettings:
        """Read the settings. A blank variable counts as unset.

        Raises:
            GraphConfigError: If a setting is invalid, or only one of the two servers is set.
        """
        environ = os.environ if environ is None else environ
        default = cls()
        redis_url, amqp_url = _url(environ, "ECO2_REDIS_URL"), _url(environ, "ECO2_AMQP_URL")
        if amqp_url and not redis_url:
            raise GraphConfigError(
                "ECO2_AMQP_URL is set without ECO2_REDIS_URL, wanted both: a job's stream must reach every process. "
                "Set ECO2_REDIS_URL."
            )
        keep_seconds = whole_number(environ, "ECO2_JOB_KEEP_SECONDS", default.keep_seconds, range(60, 604_801))
        max_wait_seconds = whole_number(
            environ, "ECO2_JOB_MAX_WAIT_SECONDS", default.max_wait_seconds, range(1, 86_401)
        )
        if keep_seconds <= max_wait_seconds:
            raise GraphConfigError(
                f"ECO2_JOB_KEEP_SECONDS is {keep_seconds}, wanted more than ECO2_JOB_MAX_WAIT_SECONDS "
                f"({max_wait_seconds}): a waiting job would expire, and be paid without a reader. Correct one of them."
            )
        return cls(
            redis_url=redis_url,
            amqp_url=amqp_url,
            keep_seconds=keep_seconds,
            max_waiting=whole_number(environ, "ECO2_MAX_WAITING_JOBS", default.max_waiting, range(1, 1_000_001)),
            max_wait_seconds=max_wait_seconds,
        )

    def check_shared(self) -> None:
        """Raise GraphConfigError unless other processes can reach jobs and streams."""
        for name, value in (("ECO2_REDIS_URL", self.redis_url), ("ECO2_AMQP_URL", self.amqp_url)):
            if not value:
                raise GraphConfigError(
                    f"{name} is unset, wanted {_SCHEMES[name][1]}; set it, or run everything in one process: "
                    "python -m graph serve."
                )


def whole_number(environ: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    """Read a whole number within a range.

    Raises:
        GraphConfigError: If it is none.
    """
    value = environ.get(name, "").strip()
    if not value:
        return default
    if not (value.isascii() and value.isdigit()) or int(value) not in allowed:
        raise GraphConfigError(
            f"{name} is {value!r}, wanted a whole number from {allowed[0]} to {allowed[-1]}; correct it or unset it."
        )
    return int(value)


def _url(environ: Mapping[str, str], name: str) -> str:
    url = environ.get(name, "").strip()
    schemes, wanted = _SCHEMES[name]
    if url and not url.startswith(schemes):
        # The rest may contain a password; without a scheme, any part of it may.
        begin = repr(url.partition("://")[0]) if "://" in url else "no scheme"
        raise GraphConfigError(f"{name} begins with {begin}, wanted {wanted}; correct it or unset it.")
    return url
