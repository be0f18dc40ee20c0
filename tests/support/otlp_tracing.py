"""A program traced in LangSmith's OpenTelemetry mode, and what its receivers got."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.otlp_receiver import Receiver, receiving

KEY = "lsv2_pt_not_a_key"
ROOT = Path(__file__).parents[2]
FOREIGN = {"LANGSMITH_API_KEY": KEY, "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}
MODES = {
    "hybrid": {"LANGSMITH_OTEL_ENABLED": "true"},
    "only": {"LANGSMITH_OTEL_ENABLED": "true", "LANGSMITH_OTEL_ONLY": "true"},
}
each_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


@dataclass(frozen=True, slots=True)
class Traced:
    """What the receivers of a traced program got, and what the program printed."""

    otlp: Receiver
    langsmith: Receiver
    records: list[dict[str, Any]]
    headers: str | None
    log: str


@contextmanager
def tracing(*how: str, **environment: str) -> Iterator[Traced]:
    """Run the program under LangSmith's tracing; ``{otlp}`` in a variable is the receiver's address."""
    with receiving() as otlp, receiving() as langsmith:
        settings = {
            "LANGSMITH_TRACING": "true",
            "LANGSMITH_API_KEY": KEY,
            "LANGSMITH_ENDPOINT": langsmith.url,
            "LANGSMITH_PROJECT": "eco2",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
            "NO_PROXY": "127.0.0.1",
            **{name: value.format(otlp=otlp.url) for name, value in environment.items()},
        }
        ran = subprocess.run(
            [sys.executable, "-m", "tests.support.otlp_program", *how],
            cwd=ROOT,
            env={**os.environ, **settings},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        printed = json.loads(ran.stdout)
        yield Traced(otlp, langsmith, printed["records"], printed["headers"], ran.stderr)
