"""Reads the worker's settings from the environment, and keys from mounted files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

from graph.errors import GraphConfigError
from graph.jobs import whole_number

__all__ = ["WorkerSettings", "read_secret_files"]

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]+")  # a mounted Secret also contains the kubelet's links


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The worker's settings.

    Attributes:
        grace_seconds: How long running jobs may continue after a stop signal, ``ECO2_GRACE_SECONDS``.
        concurrency: The maximum number of concurrent jobs, ``ECO2_WORKER_CONCURRENCY``.
        lease_seconds: How long a run counts as alive without a sign of its worker, ``ECO2_LEASE_SECONDS``. A job of a
            dead worker starts again after at most that time.
        max_shared_crashes: A job that was running in more crashes than this runs alone, ``ECO2_MAX_SHARED_CRASHES``.
        max_crashes_alone: After so many crashes alone a job is poison, ``ECO2_MAX_CRASHES_ALONE``.
    """

    grace_seconds: int = 25
    concurrency: int = 8
    lease_seconds: int = 3
    max_shared_crashes: int = 1
    max_crashes_alone: int = 3

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> WorkerSettings:
        """Read the settings. A blank variable counts as unset.

        Raises:
            GraphConfigError: If a setting is invalid.
        """
        environ = os.environ if environ is None else environ
        default = cls()
        return cls(
            grace_seconds=whole_number(environ, "ECO2_GRACE_SECONDS", default.grace_seconds, range(3601)),
            concurrency=whole_number(environ, "ECO2_WORKER_CONCURRENCY", default.concurrency, range(1, 1001)),
            lease_seconds=whole_number(environ, "ECO2_LEASE_SECONDS", default.lease_seconds, range(1, 301)),
            max_shared_crashes=whole_number(environ, "ECO2_MAX_SHARED_CRASHES", default.max_shared_crashes, range(11)),
            max_crashes_alone=whole_number(environ, "ECO2_MAX_CRASHES_ALONE", default.max_crashes_alone, range(1, 11)),
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
