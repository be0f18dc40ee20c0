"""``langgraph dev``: one request over HTTP is measured as in the application's own process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.langsmith_runs import metadata, model_runs
from tests.support.langsmith_server import LangSmithServer
from tests.support.parsed_request import ParsedRequest
from tests.support.programs import free_port
from tests.support.provider_standin import StandIn
from tests.support.scripted_answer import ModelAnswer

ROOT = Path(__file__).parents[2]


class KeepingStandIn(StandIn):
    """Keeps the answers that it served."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[ModelAnswer] = []

    def answer(self, provider: str, request: ParsedRequest) -> ModelAnswer | None:
        if (answer := super().answer(provider, request)) is not None:
            self.answers.append(answer)
        return answer


def fetch(url: str, body: object = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as response:
        return bytes(response.read())


@contextmanager
def dev_server(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Yield the address of a development server that runs the project's graph."""
    graph = ROOT / "tests" / "support" / "dev_server_graph.py"
    configuration = folder / "langgraph.json"
    configuration.write_text(json.dumps({"dependencies": [str(ROOT)], "graphs": {"eco2": f"{graph}:make_graph"}}))
    url, log = f"http://127.0.0.1:{free_port()}", folder / "server.log"
    options = ["--config", str(configuration), "--port", url.rpartition(":")[2], "--no-browser", "--no-reload"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["bash", str(ROOT / ".ci" / "langgraph-dev"), "dev", *options],
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": str(ROOT)},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    fetch(f"{url}/ok")
                    break
                except (urllib.error.URLError, ConnectionError):
                    assert server.poll() is None, log.read_text()
                    assert time.monotonic() < deadline, log.read_text()
                    time.sleep(0.2)
            yield url
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("is_traced", [False, True], ids=["untraced", "traced"])
def test_a_request_to_the_development_server_is_measured(tmp_path: Path, *, is_traced: bool) -> None:
    """Records, Prometheus and LangSmith hold what the provider served, with tracing on and off."""
    records_file, metrics_port = tmp_path / "records.json", free_port()
    with KeepingStandIn() as provider, LangSmithServer(ingest="zstd") as langsmith:
        environment = {
            "OPENAI_API_KEY": "sk-test",
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "LANGSMITH_TRACING": str(is_traced).lower(),
            "LANGSMITH_ENDPOINT": langsmith.url,
            "LANGSMITH_API_KEY": "lsv2_pt_test",
            "TEST_RECORDS": str(records_file),
            "TEST_METRICS_PORT": str(metrics_port),
        }
        with dev_server(tmp_path, environment) as url:
            state = json.loads(
                fetch(f"{url}/runs/wait", {"assistant_id": "eco2", "input": {"message": "안녕!", "image": ""}})
            )
            metrics = fetch(f"http://127.0.0.1:{metrics_port}/metrics").decode()
            if is_traced:
                langsmith.wait(
                    lambda server: bool(server.roots()) and all(run.get("end_time") for run in server.runs().values()),
                    timeout_seconds=30,
                )

    assert state["intent"] == "greeting"
    served = [(answer.input_tokens, answer.output_tokens + answer.reasoning_tokens) for answer in provider.answers]
    assert len(served) >= 2
    # gpt-5.2: 1.75 USD of input, 0.175 of it cached, 14 of output per million tokens
    usd = sum(
        (answer.input_tokens - answer.cached_tokens) * Decimal("1.75")
        + answer.cached_tokens * Decimal("0.175")
        + (answer.output_tokens + answer.reasoning_tokens) * 14
        for answer in provider.answers
    ) / Decimal(1_000_000)
    records = [(kind, record) for kind, record in json.loads(records_file.read_bytes())]
    calls = [record for kind, record in records if kind == "LLMCall"]
    (request,) = [record for kind, record in records if kind == "GraphRun"]
    assert [(call["usage"]["input_tokens"], call["usage"]["output_tokens"]) for call in calls] == served
    assert (request["llm_calls"], request["status"], request["intent"]) == (len(served), "success", "greeting")
    assert {record["trace_id"] for _, record in records} == {request["trace_id"]}
    totals = _totals(metrics)
    assert totals["llm_calls_total"] == len(served)
    assert totals["llm_tokens_total"] == sum(map(sum, served))
    assert totals["llm_cost_dollars_total"] == pytest.approx(float(usd), abs=1e-9)
    assert totals["graph_node_runs_total"] == sum(kind == "NodeRun" for kind, _ in records)
    assert totals["chat_requests_total"] == 1
    assert totals["eco2_callbacks_errors_total"] == totals["eco2_callbacks_open_runs"] == 0
    if is_traced:
        usages = [metadata(run)["usage_metadata"] for run in model_runs(langsmith)]
        assert sorted((usage["input_tokens"], usage["output_tokens"]) for usage in usages) == sorted(served)
        assert sum(usage["total_cost"] for usage in usages) == pytest.approx(float(usd), abs=1e-9)
        (root,) = langsmith.roots()
        assert metadata(root)["cost_usd"] == pytest.approx(float(usd), abs=1e-9)
    else:
        assert langsmith.runs() == {}


def _totals(exposition: str) -> dict[str, Any]:
    """Return the sum of each sample over its labels."""
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return totals
