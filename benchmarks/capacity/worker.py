"""A worker that says how much CPU its telemetry takes: ``worker.py FILE COMMAND...``.

FILE is rewritten twice a second: seconds of CPU of the process, of the handler's callbacks on the threads that fire
them, and of the handler's own threads. A callback is timed with two clock calls, so the figure is slightly too high.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))  # the graph is not an installed package

from eco2_callbacks import Eco2CallbackHandler  # noqa: E402
from graph.cli import main as run_command  # noqa: E402
from graph.worker import RunRecords  # noqa: E402

_EVERY_SECONDS = 0.5
_THREADS = ("eco2-prometheus", "eco2-sink", "eco2-ledger")  # the beginnings of the handler's threads' names


class _Clock(threading.local):
    depth = 0


_local = _Clock()
_callback_ns = [0]


def _timed(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _local.depth:  # one callback inside another is counted once
            return method(*args, **kwargs)
        _local.depth = 1
        began = time.thread_time_ns()
        try:
            return method(*args, **kwargs)
        finally:
            _callback_ns[0] += time.thread_time_ns() - began
            _local.depth = 0

    return call


def _untimed(method: Callable[..., Any]) -> Callable[..., Any]:
    """Leave the worker's own sink, which publishes events, out of the handler's time."""

    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.thread_time_ns()
        try:
            return method(*args, **kwargs)
        finally:
            if _local.depth:
                _callback_ns[0] -= time.thread_time_ns() - began

    return call


def _report(path: Path) -> None:
    process = psutil.Process()
    spent: dict[int, float] = {}
    while True:
        own = {thread.native_id for thread in threading.enumerate() if thread.name.startswith(_THREADS)}
        for thread in process.threads():
            if thread.id in own:
                spent[thread.id] = thread.user_time + thread.system_time
        times = process.cpu_times()
        figures = {
            "process_seconds": times.user + times.system,
            "callback_seconds": _callback_ns[0] / 1e9,
            "thread_seconds": sum(spent.values()),
            "rss_bytes": process.memory_info().rss,
        }
        path.with_suffix(".new").write_text(json.dumps(figures))
        os.replace(path.with_suffix(".new"), path)
        time.sleep(_EVERY_SECONDS)


def main(path: str, *command: str) -> int:
    """Run the command until a signal."""
    for name in [name for name in dir(Eco2CallbackHandler) if name.startswith("on_")]:
        setattr(Eco2CallbackHandler, name, _timed(getattr(Eco2CallbackHandler, name)))
    RunRecords.emit = _untimed(RunRecords.emit)  # type: ignore[method-assign]
    threading.Thread(target=_report, args=(Path(path),), name="report", daemon=True).start()
    return run_command(list(command))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
