"""The handler as a guest in the process: signals, exits, forks, garbage, settings of the process."""

from __future__ import annotations

import atexit
import gc
import json
import logging
import os
import sqlite3
import subprocess
import sys
import threading
import warnings
import weakref
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import graph_of

ROOT = Path(__file__).parents[1]


def run(program: str, *arguments: str, **environment: str) -> str:
    """Run a program of guest_programs and return its output; one that hangs fails the test."""
    completed = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.support.guest_programs", program, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_no_function_watches_the_garbage_collector(handler: Eco2CallbackHandler) -> None:
    """A Python function in gc.callbacks would swallow exceptions of signal handlers."""
    before = list(gc.callbacks)

    FakeModel().invoke("hello", {"callbacks": [handler]})

    assert gc.callbacks == before


@pytest.mark.parametrize("kind", ["none", "memory", "file"])
def test_a_process_with_an_open_stream_ends(kind: str) -> None:
    """No thread starts while the interpreter ends: on Python 3.11 that would block for ever."""
    run("open_stream_at_exit", kind)


@pytest.mark.slow
def test_a_child_forked_under_load_works() -> None:
    """No lock that a thread of the parent held is missing in the child."""
    assert json.loads(run("fork_under_load", "20")) == [0] * 20


@pytest.mark.parametrize("kind", ["queue", "ledger"])
def test_a_child_forked_while_a_queue_starts_works(tmp_path: Path, kind: str) -> None:
    """The lock of a queue that another thread held at the fork is free in the child, and both records arrive."""
    path = tmp_path / "records"

    assert run("fork_amid_first_submit", kind, str(path)) == "0\n"

    if kind == "queue":
        assert len(path.read_text().splitlines()) == 2
    else:
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM calls").fetchone() == (2,)


@pytest.mark.slow
def test_interrupts_lose_no_record() -> None:
    """Every record that a sink got is counted in Prometheus, and what a sink lost is counted as lost."""
    seen = json.loads(run("interrupts", "150"))

    assert seen["records"] <= seen["counted"] <= seen["records"] + seen["lost"] + 150
    assert seen["counted"] > 100


def test_children_lose_no_record(tmp_path: Path) -> None:
    """Children of multiprocessing, of a pool and of a plain fork drain their queues before they end."""
    path = tmp_path / "records"

    run("children", str(path))

    assert len(path.read_text().splitlines()) == 1 + 5 + 10 + 2


class Closable(Records):
    def close(self) -> None: ...


@pytest.mark.parametrize("sink", [None, Records, Closable])
def test_a_forgotten_handler_is_collected(registry: CollectorRegistry, sink: type[Any] | None) -> None:
    """A handler per request without close() leaves no handler and no thread."""
    threads = {thread.name for thread in threading.enumerate() if thread.name.startswith("eco2-sink")}
    made = []
    for _ in range(20):
        handler = Eco2CallbackHandler(registry=registry, sinks=[sink()] if sink else [])
        made.append(weakref.ref(handler))
        FakeModel().invoke("hello", {"callbacks": [handler]})

    del handler
    gc.collect()

    assert [reference() for reference in made] == [None] * 20
    for thread in threading.enumerate():
        if thread.name.startswith("eco2-sink") and thread.name not in threads:
            thread.join(30)
            assert not thread.is_alive()


def test_the_constructor_changes_nothing_outside(registry: CollectorRegistry) -> None:
    """Environment, log filters, warning filters and exit hooks are as before, also after use and close()."""

    def process() -> Any:
        filters = list(logging.getLogger("langsmith.client").filters)
        return dict(os.environ), filters, list(warnings.filters), atexit._ncallbacks()

    FakeModel().invoke("hello")  # LangChain's own first imports
    before = process()

    handler = Eco2CallbackHandler(registry=registry, sinks=[Closable()])
    constructed = process()
    FakeModel().invoke("hello", {"callbacks": [handler]})
    handler.close()

    assert constructed == before
    assert process() == before


async def test_one_scrape_is_one_snapshot(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """Dollars by tenant and by node agree in every scrape, also while calls are counted."""
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            FakeModel().invoke("hello", {"callbacks": [handler]})

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    differing = 0
    for _ in range(20):
        totals: Counter[str] = Counter()
        for family in registry.collect():
            for sample in family.samples:
                totals[sample.name] += sample.value  # type: ignore[assignment]
        differing += totals["llm_tokens_total"] != totals["graph_node_tokens_total"]
    stopped.set()
    for thread in threads:
        thread.join()

    assert differing == 0


def test_a_warning_is_logged_once_a_process(caplog: pytest.LogCaptureFixture) -> None:
    """Ten handlers that meet the same unknown model log one line."""
    for _ in range(10):
        with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
            FakeModel(model="made-up-1", answered_by=None).invoke("hello", {"callbacks": [handler]})

    assert sum("made-up-1" in record.getMessage() for record in caplog.records) == 1


def test_a_package_imported_twice_shares_its_metrics() -> None:
    """A reloader or a notebook makes a new handler on the default registry without an error."""
    run("imported_twice")


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_identifier_without_text_loses_only_itself(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """The request is recorded without the identifier, and the failure is counted."""

    def node(state: Any) -> Any:
        return {}

    graph = graph_of(node).compile()
    graph.invoke({}, {"callbacks": [handler], "metadata": {"user_id": Unprintable(), "job_id": "j1"}})

    assert (records.request.user_id, records.request.job_id) == (None, "j1")
    assert exposed(registry, "eco2_callbacks_errors_total") == 1


@pytest.mark.slow
def test_settings_are_not_summed_over_workers(tmp_path: Path) -> None:
    """In multiprocess mode two workers with a budget of 100 expose 100."""
    worker = (
        "from prometheus_client import CollectorRegistry\n"
        "from eco2_callbacks import Eco2CallbackHandler\n"
        "Eco2CallbackHandler(registry=CollectorRegistry(), budgets={'acme': {'monthly_usd': 100}})\n"
        "print('ready', flush=True)\n"
        "input()\n"
    )
    reader = (
        "from prometheus_client import CollectorRegistry\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "registry = CollectorRegistry(); MultiProcessCollector(registry)\n"
        "print(registry.get_sample_value('tenant_monthly_budget_usd', {'tenant_id': 'acme'}))\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    command = [sys.executable, "-c"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    workers = [subprocess.Popen([*command, worker], env=environment, **pipes) for _ in range(2)]
    try:
        assert [process.stdout.readline() for process in workers if process.stdout] == [b"ready\n"] * 2
        read = subprocess.run([*command, reader], env=environment, check=True, capture_output=True, text=True)
    finally:
        for process in workers:
            process.communicate(b"\n")

    assert read.stdout.strip() == "100.0"


class Judge(Closable):
    """Asks a model itself about the first two records."""

    handler: Eco2CallbackHandler

    def emit(self, record: Any) -> None:
        super().emit(record)
        if len(self.all) < 3:
            FakeModel().invoke("is this good?", {"callbacks": [self.handler]})


def test_a_judging_sink_gets_every_record(registry: CollectorRegistry) -> None:
    """A sink that asks a model itself gets the records of its own calls too, also while close() waits."""
    for _ in range(30):
        judge = Judge()
        judge.handler = handler = Eco2CallbackHandler(registry=registry, sinks=[judge])
        FakeModel().invoke("hello", {"callbacks": [handler]})
        handler.close()

        assert len(judge.calls) == 3


@pytest.mark.slow
def test_many_forks_and_interrupts_lose_nothing(tmp_path: Path) -> None:
    """A soak: 100 forks under load, 1,000 interrupts, and children of every kind ten times over."""
    assert json.loads(run("fork_under_load", "100")) == [0] * 100
    seen = json.loads(run("interrupts", "1000"))
    assert seen["records"] <= seen["counted"] <= seen["records"] + seen["lost"] + 1000
    for number in range(10):
        path = tmp_path / str(number)
        run("children", str(path))
        assert len(path.read_text().splitlines()) == 1 + 5 + 10 + 2
        run("open_stream_at_exit", "file")
