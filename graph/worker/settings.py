"""Reads the worker's settings from the environment, and keys from mounted files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import GraphConfigError

__all__ = ["WorkerSettings", "read_secret_files"]

_SCHEMES = ("redis://", "rediss://", "unix://")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+")  # a mounted Secret also contains the kubelet's links


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The worker's settings.

    Attributes:
        redis_url: The Redis of jobs and tokens, ``ECO2_REDIS_URL``. Not shown, as it may contain a password.
        metrics_port: The port of metrics and health checks, ``ECO2_METRICS_PORT``.
        grace_seconds: How long running jobs may continue after a stop signal, ``ECO2_GRACE_SECONDS``.
        concurrency: The maximum number of concurrent jobs, ``ECO2_WORKER_CONCURRENCY``.
    """

    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    metrics_port: int = 9464
    grace_seconds: int = 25
    concurrency: int = 8

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> WorkerSettings:
        """Read the settings. A blank variable counts as unset.

        Raises:
            GraphConfigError: If a setting is invalid.
        """
        environ = os.environ if environ is None else environ
        default = cls()
        url = environ.get("ECO2_REDIS_URL", "").strip() or default.redis_url
        if not url.startswith(_SCHEMES):
            # The rest may contain a password; without a scheme, any part of it may.
            begin = repr(url.partition("://")[0]) if "://" in url else "no scheme"
            raise GraphConfigError(
                f"ECO2_REDIS_URL begins with {begin}, wanted 'redis://host:port/database', 'rediss://...' or "
                "'unix://...'; correct it or unset it."
            )
        return cls(
            redis_url=url,
            metrics_port=_whole_number(environ, "ECO2_METRICS_PORT", default.metrics_port, range(65536)),
            grace_seconds=_whole_number(environ, "ECO2_GRACE_SECONDS", default.grace_seconds, range(3601)),
            concurrency=_whole_number(environ, "ECO2_WORKER_CONCURRENCY", default.concurrency, range(1, 1001)),
        )


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set variables from the files in ``ECO2_SECRETS_DIR``, named after the files. Keep variables that are set.

    Raises:
        GraphConfigError: If the directory does not exist or one of its files cannot be read.
    """
    if not (setting := environ.get("ECO2_SECRETS_DIR", "").strip()):
        return
    folder = Path(setting)
    if not folder.is_dir():
        raise GraphConfigError(
            f"ECO2_SECRETS_DIR is {setting!r}, wanted an existing directory; correct it or unset it."
        )
    for path in sorted(folder.iterdir()):
        if not _VARIABLE.fullmatch(path.name) or environ.get(path.name, "").strip():
            continue
        try:
            environ[path.name] = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise GraphConfigError(f"The secret {path} cannot be read: {reason}; correct or remove it.") from error


def _whole_number(environ: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    value = environ.get(name, "").strip()
    if not value:
        return default
    if not value.isdecimal() or int(value) not in allowed:
        raise GraphConfigError(
            f"{name} is {value!r}, wanted a whole number from {allowed[0]} to {allowed[-1]}; correct it or unset it."
        )
    return int(value)
