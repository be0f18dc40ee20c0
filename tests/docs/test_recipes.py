"""docs/recipes/: each page's code runs as it stands, and what it promises appears."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import nbformat
import pytest
from langgraph.graph import START, MessagesState, StateGraph
from nbclient import NotebookClient
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from eco2_callbacks import Eco2CallbackHandler, GraphRun
from tests.support.chat_completions import USD, ChatCompletions
from tests.support.fake_model import FakeModel
from tests.support.programs import free_port
from tests.support.record_sink import Records
from tests.support.redis_process import redis_process

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "recipes"
# A machine four times as slow, and busy, starts the largest of these programs in less.
_START_SECONDS = 240.0


def blocks(page: str) -> dict[str, str]:
    """Return the code of a page by the name that its first line gives."""
    text = (PAGES / page).read_text()
    found = re.findall(r"^```(?:python|json)\n(?:#|//) ([^\n]+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return dict(found)


def command(page: str, program: str) -> list[str]:
    """Return the arguments of a program that the page's console block starts, below this Python."""
    (line,) = re.findall(rf"^{program} (.+)$", (PAGES / page).read_text(), re.MULTILINE)
    return [sys.executable, "-m", program, *line.split()]


def write_files(page: str, folder: Path) -> None:
    for name, code in blocks(page).items():
        (folder / name).write_text(code)


@contextmanager
def running(
    arguments: list[str], folder: Path, environment: dict[str, str], is_ready: Callable[[], object]
) -> Iterator[None]:
    """Run a program during the block, from the moment that it is ready; all its processes end with it."""
    log = folder / "program.log"
    with log.open("wb") as output:
        program = subprocess.Popen(
            arguments,
            cwd=folder,
            env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            wait_until(is_ready, lambda: program.poll() is None, log)
            yield
        finally:
            os.killpg(program.pid, signal.SIGTERM)
            try:
                program.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(program.pid, signal.SIGKILL)
                program.wait()


def wait_until(is_ready: Callable[[], object], is_alive: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            if is_ready():
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            pass
        assert is_alive(), log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.1)


def fetch(url: str, body: object = None, *, method: str | None = None) -> str:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json"}, method=method)
    with urllib.request.urlopen(request, timeout=120) as response:
        return str(response.read().decode())


def totals(url: str) -> dict[str, float]:
    """Return the sum of each sample over its labels."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(fetch(url)):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md")))
def test_the_code_of_every_page_compiles(page: str) -> None:
    """No page holds a syntax error; the list of recipes names each page."""
    for name, code in blocks(page).items():
        if name.endswith(".json"):
            json.loads(code)
        else:
            compile(code, name, "exec", flags=0x2000)  # PyCF_ALLOW_TOP_LEVEL_AWAIT, as in a notebook

    assert page == "README.md" or f"[{page}]({page})" in (PAGES / "README.md").read_text()


@pytest.mark.slow
def test_fastapi(tmp_path: Path) -> None:
    """Both calls of each request are counted, the SDK's too, with tenant and node."""
    write_files("fastapi.md", tmp_path)
    port = free_port()
    arguments = [text if text != "8000" else str(port) for text in command("fastapi.md", "uvicorn")]
    url = f"http://127.0.0.1:{port}"
    with (
        ChatCompletions() as provider,
        running(arguments, tmp_path, provider.environment, lambda: fetch(f"{url}/openapi.json")),
    ):
        for _ in range(2):
            answer = fetch(f"{url}/chat", {"text": "Where does glass go?", "tenant_id": "acme"})
            assert json.loads(answer) == {"answer": "in the bin"}
        metrics, exposition = totals(f"{url}/metrics/"), fetch(f"{url}/metrics/")

    assert (provider.served, metrics["llm_calls_total"], metrics["chat_requests_total"]) == (4, 4, 2)
    assert metrics["llm_cost_dollars_total"] == pytest.approx(4 * USD)
    assert metrics["eco2_callbacks_errors_total"] == 0
    (shown,) = re.findall(r"^```text\n(.*?)^```", (PAGES / "fastapi.md").read_text(), re.DOTALL | re.MULTILINE)
    assert all(line in exposition for line in shown.splitlines())


async def test_a_client_that_leaves_a_stream_cancels_its_call() -> None:
    """The page's stream, cancelled as Starlette does it: the request ends with its call and the call's estimate."""
    namespace: dict[str, Any] = {}
    exec(compile(blocks("fastapi.md")["streaming.py"], "streaming.py", "exec"), namespace)
    records = Records()
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records])
    model = FakeModel(words=["word "] * 10_000, pause_seconds=0.01)

    async def node(state: MessagesState) -> MessagesState:
        return {"messages": [await model.ainvoke("hello")]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    received = asyncio.Event()

    async def respond() -> None:
        async for _ in namespace["stream_text"](graph, {"messages": []}, {"callbacks": [handler]}):
            received.set()

    async with anyio.create_task_group() as group:
        group.start_soon(respond)
        await received.wait()
        group.cancel_scope.cancel()
    while not records.of(GraphRun):
        await asyncio.sleep(0.01)
        handler.flush()

    request = records.request
    assert (request.status, request.llm_calls, request.estimated) == ("cancelled", 1, True)
    assert request.cost == records.call.cost == records.nodes["node"].cost


@pytest.mark.slow
def test_gunicorn_with_preload_and_several_workers(tmp_path: Path) -> None:
    """The requests of all workers are in one exposition, whichever worker serves it."""
    write_files("gunicorn.md", tmp_path)
    (folder := tmp_path / "metrics").mkdir()
    port = free_port()
    arguments = [text.replace(":8000", f":{port}") for text in command("gunicorn.md", "gunicorn")]
    url = f"http://127.0.0.1:{port}"
    requests = 8
    # Two requests wait for each other, so that both workers can be busy.
    with ChatCompletions(gate=2) as provider:
        environment = {**provider.environment, "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        with (
            running(arguments, tmp_path, environment, lambda: fetch(f"{url}/metrics")),
            ThreadPoolExecutor(requests) as executor,
        ):
            answers = list(executor.map(lambda _: fetch(f"{url}/chat?text=hi", method="POST"), range(requests)))
            metrics = [totals(f"{url}/metrics") for _ in range(4)]

    assert {json.loads(answer)["answer"] for answer in answers} == {"in the bin"}
    for each in metrics:
        assert (each["llm_calls_total"], each["chat_requests_total"]) == (requests, requests)
        assert each["llm_cost_dollars_total"] == pytest.approx(requests * USD)
        assert each["eco2_callbacks_errors_total"] == each["eco2_callbacks_open_runs"] == 0


@pytest.mark.slow
def test_celery(tmp_path: Path) -> None:
    """The tasks of all child processes are in the exposition of the worker's main process."""
    write_files("celery.md", tmp_path)
    for name in ("metrics", "redis"):
        (tmp_path / name).mkdir()
    metrics_url = f"http://127.0.0.1:{(metrics_port := free_port())}/metrics"
    with redis_process(tmp_path / "redis") as broker, ChatCompletions(gate=2) as provider:
        environment = {
            **provider.environment,
            "BROKER_URL": broker.url,
            "METRICS_PORT": str(metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics"),
        }
        with running(command("celery.md", "celery"), tmp_path, environment, lambda: fetch(metrics_url)):
            send = "from tasks import ask\nfor _ in range(4): ask.delay('Where does glass go?', 'acme')"
            paths = os.pathsep.join([str(ROOT), str(tmp_path)])
            subprocess.run(
                [sys.executable, "-c", send],
                cwd=tmp_path,
                env={**os.environ, **environment, "PROMETHEUS_MULTIPROC_DIR": "", "PYTHONPATH": paths},
                check=True,
            )
            log = tmp_path / "program.log"
            wait_until(lambda: totals(metrics_url).get("chat_requests_total") == 4, lambda: True, log)
            metrics, exposition = totals(metrics_url), fetch(metrics_url)

    assert (provider.served, metrics["llm_calls_total"]) == (4, 4)
    assert metrics["llm_cost_dollars_total"] == pytest.approx(4 * USD)
    assert metrics["eco2_callbacks_errors_total"] == 0
    assert 'tenant_id="acme"' in exposition


@pytest.mark.slow
def test_langgraph_dev(tmp_path: Path) -> None:
    """A run that the server starts is measured, although the server makes its config."""
    write_files("langgraph-dev.md", tmp_path)
    port, metrics_port = free_port(), free_port()
    arguments = ["bash", str(ROOT / ".ci" / "langgraph-dev"), "dev", "--port", str(port), "--no-browser", "--no-reload"]
    url, metrics_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{metrics_port}/metrics"
    with ChatCompletions() as provider:
        environment = {**provider.environment, "METRICS_PORT": str(metrics_port)}
        with running(arguments, tmp_path, environment, lambda: fetch(f"{url}/ok")):
            question = {"messages": [{"role": "user", "content": "Where does glass go?"}]}
            state = json.loads(fetch(f"{url}/runs/wait", {"assistant_id": "chat", "input": question}))
            metrics = totals(metrics_url)

    assert state["messages"][-1]["content"] == "in the bin"
    assert (metrics["llm_calls_total"], metrics["chat_requests_total"]) == (1, 1)
    assert metrics["llm_cost_dollars_total"] == pytest.approx(USD)
    assert metrics["eco2_callbacks_errors_total"] == 0


@pytest.mark.slow
def test_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call prints its cost, also after the first cell ran a second time."""
    cells = blocks("notebook.md")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    with ChatCompletions() as provider:
        for name, value in provider.environment.items():
            monkeypatch.setenv(name, value)
        names = ["cell 1", *cells]
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cells[name]) for name in names])
        NotebookClient(
            notebook, timeout=240, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
        ).execute()

    (shown,) = re.findall(r"^```text\n(.*?)^```", (PAGES / "notebook.md").read_text(), re.DOTALL | re.MULTILINE)
    assert _printed(notebook) == shown
    assert provider.served == 2


def _printed(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    return "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
