"""The project's graph for ``langgraph dev`` in a test: serves its metrics, and writes its records at each request."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
from langchain_core.runnables import RunnableConfig
from prometheus_client import start_http_server

from eco2_callbacks import GraphRun, Record, Settings
from graph.app import make_handler
from graph.build import build_graph

__all__ = ["make_graph"]


class RecordFile:
    """Writes all records so far when a request ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._records: list[tuple[str, Record]] = []

    def emit(self, record: Record) -> None:
        self._records.append((type(record).__name__, record))
        if isinstance(record, GraphRun):
            self._path.write_bytes(msgspec.json.encode(self._records, enc_hook=str))


start_http_server(int(os.environ["TEST_METRICS_PORT"]), addr="127.0.0.1")
_graph = build_graph().with_config(
    callbacks=[make_handler(Settings(), sinks=[RecordFile(Path(os.environ["TEST_RECORDS"]))])]
)


def make_graph(config: RunnableConfig) -> object:
    """Return the graph; the server calls this for every request."""
    return _graph
