"""The server processes: API, worker, or both in one process."""

from __future__ import annotations

from graph.serving.process import Role, ServeOptions, run_server

__all__ = ["Role", "ServeOptions", "run_server"]
