"""What the environment tells the worker: its settings, and keys that are given as files instead of variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from graph.errors import GraphConfigError

__all__ = ["WorkerSettings", "read_secret_files"]

_SCHEMES = ("redis://", "rediss://", "unix://")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+")  # a mounted Secret also holds links of the kubelet's own


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The worker's settings.

    Attributes:
        redis_url: Where jobs come from and tokens go to, ``ECO2_REDIS_URL``; it can hold a password, and is not shown.
        metrics_port: ``ECO2_METRICS_PORT``.
        grace_seconds: How long jobs under way may take once the worker is to stop, ``ECO2_GRACE_SECONDS``.
        concurrency: How many jobs at once, ``ECO2_WORKER_CONCURRENCY``.
    """

    redis_url: str = field(default="redis://127.0.0.1:6379/0", repr=False)
    metrics_port: int = 9464
    grace_seconds: int = 25
    concurrency: int = 8

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> WorkerSettings:
        """Read the settings; a blank variable counts as unset.

        Raises:
            GraphConfigError: If one cannot be meant.
        """
        environ = os.environ if environ is None else environ
        default = cls()
        url = environ.get("ECO2_REDIS_URL", "").strip() or default.redis_url
        if not url.startswith(_SCHEMES):
            # The rest may hold a password, and without a scheme all of it may.
            begin = repr(url.partition("://")[0]) if "://" in url else "no scheme"
            raise GraphConfigError(
                f"ECO2_REDIS_URL begins with {begin}, wanted 'redis://host:port/database', 'rediss://...' or "
                "'unix://...'; correct it or unset it."
            )
        return cls(
            redis_url=url,
            metrics_port=_whole(environ, "ECO2_METRICS_PORT", default.metrics_port, range(65536)),
            grace_seconds=_whole(environ, "ECO2_GRACE_SECONDS", default.grace_seconds, range(3601)),
            concurrency=_whole(environ, "ECO2_WORKER_CONCURRENCY", default.concurrency, range(1, 1001)),
        )


def read_secret_files(environ: MutableMapping[str, str]) -> None:
    """Set every variable that a file in the directory ``ECO2_SECRETS_DIR`` is named after, unless it is set.

    Raises:
        GraphConfigError: If there is no such directory, or a file in it cannot be read.
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
            reason = error.strerror if isinstance(error, OSError) else "it is no text"
            raise GraphConfigError(
                f"The secret {path} cannot be read: {reason}; correct it or take it away."
            ) from error


def _whole(environ: Mapping[str, str], name: str, default: int, allowed: range) -> int:
    value = environ.get(name, "").strip()
    if not value:
        return default
    if not value.isdecimal() or int(value) not in allowed:
        raise GraphConfigError(
            f"{name} is {value!r}, wanted a whole number from {allowed[0]} to {allowed[-1]}; correct it or unset it."
        )
    return int(value)
