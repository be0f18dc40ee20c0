"""Programs and ports for the servers that tests start."""

from __future__ import annotations

import os
import shutil
import socket
from typing import Never

import pytest

__all__ = ["free_port", "program", "skip_missing"]


def free_port() -> int:
    """Return a port of the loopback that no program listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program(*names: str, package: str) -> str:
    """Return the path of a program by the first of its names found. If it is missing, skip the test; on CI, fail it."""
    path = next(filter(None, map(shutil.which, names)), None)
    return skip_missing(names[0], package) if path is None else path


def skip_missing(what: str, package: str) -> Never:
    """Skip the test for want of a program; on CI, fail it."""
    reason = f"{what} is not installed: apt-get install {package}; .ci/run does it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
