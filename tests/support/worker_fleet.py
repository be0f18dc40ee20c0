"""Runs workers as processes of one fleet: ``worker_fleet.py CASSETTE FOLDER COUNT``.

The program loads everything once and forks its workers, so that a killed one is replaced within moments. Each worker
writes the records of its handler to ``FOLDER/records.jsonl`` at once, whatever happens to it. A job whose message ends
with ``POISON`` kills its worker with SIGKILL in the midst of its answer; the graph gets the message without it.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eco2_callbacks import Eco2CallbackHandler, LLMCall, Record, Settings, Sink
from graph.app import make_handler
from graph.cli import main
from graph.replay import replay
from graph.runtime import Runtime

POISON = " (poison)"
_POISON_SECONDS = 0.7


class JournalSink:
    """Appends each model call to a file with one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def emit(self, record: Record) -> None:
        if isinstance(record, LLMCall):
            row = {
                "run_id": str(record.run_id),
                "job_id": record.metadata.get("job_id"),
                "job_run": record.metadata.get("job_run"),
                "node": record.node,
                "status": record.status,
                "usd": str(record.cost.total_usd) if record.cost is not None else None,
            }
            os.write(self._file, f"{json.dumps(row)}\n".encode())


def work(cassette: Path, folder: Path) -> int:
    """Run one worker until a signal arrives."""

    def handler(settings: Settings, *, sinks: Sequence[Sink] = (), **options: Any) -> Eco2CallbackHandler:
        return make_handler(settings, sinks=[*sinks, JournalSink(folder / "records.jsonl")], **options)

    def make_turn(message: str, **options: Any) -> Any:
        if message.endswith(POISON):
            asyncio.get_running_loop().call_later(_POISON_SECONDS, os.kill, os.getpid(), signal.SIGKILL)
        return runtime.make_turn(message.removesuffix(POISON), **options)

    runtime = Runtime()
    kept = {name: value for name, value in os.environ.items() if name.startswith("ECO2_")}
    with replay(cassette, speed=1, repeats=True):
        os.environ.update(kept)  # a replay removes all addresses
        return main(
            ["worker", "--metrics-port", "0"], runtime=replace(runtime, make_handler=handler, make_turn=make_turn)
        )


def run(cassette: str, folder: str, count: str) -> int:
    """Keep so many workers running until SIGTERM, and write their process ids to ``FOLDER/pids``."""
    stopped, pids, listed = [], set[int](), set[int]()
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    while not stopped:
        while len(pids) < int(count):
            if (pid := os.fork()) == 0:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os._exit(work(Path(cassette), Path(folder)))
            pids.add(pid)
        if pids != listed:
            listed = set(pids)
            (Path(folder) / "pids.new").write_text(" ".join(map(str, sorted(pids))))
            os.replace(Path(folder) / "pids.new", Path(folder) / "pids")
        ended, _ = os.waitpid(-1, os.WNOHANG)
        pids.discard(ended)
        time.sleep(0.02)
    for pid in pids:
        os.kill(pid, signal.SIGTERM)
    return max((os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids), default=0)


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
