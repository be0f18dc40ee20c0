"""Runs the worker as a process, with a cassette as its provider: ``worker_program.py CASSETTE RECORDS``.

Its handler has a sink that writes its records only when it is closed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eco2_callbacks import Eco2CallbackHandler, GraphRun, Record, Settings, Sink
from graph.app import make_handler
from graph.cli import main
from graph.replay import replay
from graph.runtime import Runtime


class BufferingSink:
    """A sink that writes at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._requests: list[dict[str, Any]] = []

    def emit(self, record: Record) -> None:
        if isinstance(record, GraphRun):
            usd = str(record.cost.total_usd)
            self._requests.append({"job_id": record.job_id, "status": record.status, "usd": usd})

    def close(self) -> None:
        self._path.write_text(json.dumps(self._requests))


def run(cassette: str, records: str) -> int:
    """Run until a signal arrives."""

    def handler(settings: Settings, *, sinks: Sequence[Sink] = (), **options: Any) -> Eco2CallbackHandler:
        return make_handler(settings, sinks=[*sinks, BufferingSink(Path(records))], **options)

    url = os.environ["ECO2_REDIS_URL"]
    with replay(Path(cassette), speed=1):
        os.environ["ECO2_REDIS_URL"] = url  # a replay removes all addresses
        return main(["worker"], runtime=replace(Runtime(), make_handler=handler))


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
