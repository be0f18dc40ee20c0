"""Answers all model and service calls of a server from the demo's recordings."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graph.replay import join_cassettes
from graph.runtime import Runtime

__all__ = ["replaying"]


@contextmanager
def replaying(runtime: Runtime, *, speed: float) -> Iterator[None]:
    """Replay the recorded conversations, any number of times, during the block. Other questions fail.

    Args:
        runtime: Its recordings are replayed: those of ``ECO2_PROVIDER``.
        speed: 1 is real time.

    Raises:
        CassetteError: If there are no recordings.
    """
    folder = (
        runtime.cassettes / "google" if os.environ.get("ECO2_PROVIDER", "").strip() == "google" else runtime.cassettes
    )
    kept = {name: value for name, value in os.environ.items() if name.startswith(("ECO2_PROVIDER", "LANGSMITH_"))}
    with tempfile.TemporaryDirectory(prefix="eco2-replay-") as scratch:
        joined = Path(scratch) / "joined.yaml"
        join_cassettes([*sorted(folder.glob("*.yaml")), *sorted((folder / "en").glob("*.yaml"))], joined)
        with runtime.run_services(), runtime.replay(joined, speed=speed, repeats=True):
            os.environ.update(kept)  # a replay removes the settings of providers and tracing
            yield
