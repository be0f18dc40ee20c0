"""Runs a server process on a recording: ``server_program.py CASSETTE RECORDS COMMAND...``.

Its handler has a sink that writes what it gets to a file only when it is closed. The recording's answers repeat.
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


def run(cassette: str, records: str, *command: str) -> int:
    """Run until a signal arrives."""

    def handler(settings: Settings, *, sinks: Sequence[Sink] = (), **options: Any) -> Eco2CallbackHandler:
        return make_handler(settings, sinks=[*sinks, BufferingSink(Path(records))], **options)

    kept = {name: value for name, value in os.environ.items() if name.startswith(("ECO2_", "LANGSMITH_", "OTEL_"))}
    with replay(Path(cassette), speed=1, repeats=True):
        os.environ.update(kept)  # a replay removes all addresses
        return main(list(command), runtime=replace(Runtime(), make_handler=handler))


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
