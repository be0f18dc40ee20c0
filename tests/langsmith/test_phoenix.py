"""Phoenix, a real OTLP receiver on the loopback, shows the spans with their tokens and dollars."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from tests.support.otlp_tracing import KEY, MODES, tracing
from tests.support.programs import free_port

ROOT = Path(__file__).parents[2]
_T = TypeVar("_T")


def get_json(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=300) as response:
        return json.load(response)


def wait_until(found: Callable[[], _T | None], seconds: float) -> _T | None:
    """Poll until a value is found or time is up."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (result := found()) is not None:
            return result
        time.sleep(0.1)
    return None


@pytest.fixture
def phoenix(tmp_path: Path) -> Iterator[str]:
    """Yield the address of a Phoenix that runs for one test."""
    url = f"http://127.0.0.1:{free_port()}"
    log = tmp_path / "phoenix.log"
    settings = {
        "PHOENIX_HOST": "127.0.0.1",
        "PHOENIX_PORT": url.rpartition(":")[2],
        "PHOENIX_GRPC_PORT": str(free_port()),
        "PHOENIX_WORKING_DIR": str(tmp_path),
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PHOENIX_")}
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["bash", str(ROOT / ".ci" / "phoenix"), "serve"],
            env={**environment, **settings},
            cwd=tmp_path,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def started() -> bool | None:
        assert server.poll() is None, log.read_text()
        try:
            return get_json(f"{url}/v1/projects") and True
        except OSError:
            return None

    try:
        # Long enough to download Phoenix first, where .ci/run has not done so.
        assert wait_until(started, 600), log.read_text()
        yield url
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


@pytest.mark.slow
def test_phoenix_shows_what_a_request_used_and_cost(phoenix: str) -> None:
    """In both modes the span trees arrive with the record's dollars and without LangSmith's key."""
    cost_usd = {}
    for mode, settings in MODES.items():
        with tracing(**settings, LANGSMITH_PROJECT=mode, OTEL_EXPORTER_OTLP_ENDPOINT=phoenix) as traced:
            (cost_usd[mode],) = {float(record["cost"]) for record in traced.records}

    def arrived() -> list[Any] | None:
        spans = get_json(f"{phoenix}/v1/projects/default/spans")["data"]
        return spans if len(spans) == 6 else None

    spans = wait_until(arrived, 60)
    assert spans is not None, get_json(f"{phoenix}/v1/projects/default/spans")
    assert KEY not in json.dumps(spans)
    for mode in MODES:
        of_mode = [span for span in spans if span["attributes"]["langsmith.trace.session_name"] == mode]
        named = {span["name"]: span for span in of_mode}
        root, node, call = (named[name] for name in ("LangGraph", "answer", "FakeModel"))
        assert [root["parent_id"], node["parent_id"], call["parent_id"]] == [
            None,
            root["context"]["span_id"],
            node["context"]["span_id"],
        ]
        assert {span["attributes"]["langsmith.metadata.cost_usd"] for span in of_mode} == {cost_usd[mode]}
        attributes = call["attributes"]
        assert attributes["langsmith.metadata.usage_metadata.total_cost"] == cost_usd[mode]
        assert (attributes["gen_ai.usage.input_tokens"], attributes["gen_ai.usage.output_tokens"]) == (1200, 350)
        # Phoenix's own columns, which its pages add up.
        assert (attributes["llm.token_count.prompt"], attributes["llm.token_count.completion"]) == (1200, 350)
