"""Prometheus' multiprocess mode: another process reads, so each worker keeps its own gauges up to date."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetRule, Budgets, Eco2CallbackHandler
from eco2_callbacks.prometheus import instruments
from eco2_callbacks.prometheus.instruments import instruments_of
from tests.support.fake_model import FakeModel

_MAX_WAIT_SECONDS = 120.0


def _wait_until(condition: Callable[[], object]) -> None:
    give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def _thread(handler: Eco2CallbackHandler) -> threading.Thread | None:
    """Return the thread that counts on the handler's registry."""
    return handler._exporter.instruments._worker._queue._thread


@pytest.fixture
def multiprocess(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have handlers count as in multiprocess mode; prometheus-client itself has decided when it was imported."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    monkeypatch.setattr(instruments, "_IDLE_SECONDS", 0.01)


def _handler() -> Eco2CallbackHandler:
    budgets = Budgets(rules=[BudgetRule(name="all", limit_usd="100", window="day")])
    return Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets)


def _limits(handler: Eco2CallbackHandler) -> list[float]:
    """Return the budgets' limits without a reading of the registry, which would update them."""
    (metric,) = handler._exporter.instruments.gauge("budget_limit_dollars").collect()
    return [sample.value for sample in metric.samples]


@pytest.mark.usefixtures("multiprocess")
def test_the_workers_thread_updates_the_gauges_until_the_handler_is_closed() -> None:
    """A handler starts no thread, its first run does, and ``close`` ends it."""
    handler = _handler()
    before = _thread(handler)

    FakeModel().invoke("hello", {"callbacks": [handler]})
    _wait_until(lambda: _limits(handler) == [100.0])
    thread = _thread(handler)
    handler.close()

    assert before is None
    assert thread is not None
    _wait_until(lambda: not thread.is_alive())
    assert _thread(handler) is None


@pytest.mark.usefixtures("multiprocess")
def test_a_run_after_a_close_starts_the_updates_again() -> None:
    """Another handler on the registry goes on."""
    handler = _handler()
    FakeModel().invoke("hello", {"callbacks": [handler]})
    handler._exporter.instruments.rest()
    handler._exporter.instruments.gauge("budget_limit_dollars").labels(budget="all", window="day").set(0)

    FakeModel().invoke("hello", {"callbacks": [handler]})

    _wait_until(lambda: _limits(handler) == [100.0])
    handler.close()


@pytest.mark.usefixtures("multiprocess")
def test_handlers_that_are_forgotten_leave_no_thread() -> None:
    """The thread ends once no handler lives whose gauges it could update, also where the registry lives on."""
    registry = CollectorRegistry()
    for _ in range(3):
        handler = Eco2CallbackHandler(registry=registry)
        FakeModel().invoke("hello", {"callbacks": [handler]})
    thread = _thread(handler)
    assert thread is not None
    del handler
    gc.collect()

    _wait_until(lambda: not thread.is_alive())
    assert instruments_of(registry)._worker._queue._thread is None


@pytest.mark.usefixtures("multiprocess")
def test_a_worker_that_is_never_idle_updates_the_gauges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that end one after another keep the worker busy; the gauges are updated all the same."""
    monkeypatch.setattr(instruments, "_IDLE_SECONDS", 10_000.0)
    handler = _handler()
    FakeModel().invoke("hello", {"callbacks": [handler]})
    # From now on idle moments are too rare, and each update is due.
    monkeypatch.setattr(instruments, "_IDLE_SECONDS", 0.0)

    list(FakeModel().stream("hello", {"callbacks": [handler]}))

    _wait_until(lambda: _limits(handler) == [100.0])
    handler.close()


def test_a_handler_in_the_ordinary_mode_starts_no_thread(registry: CollectorRegistry) -> None:
    """There the reader updates the gauges."""
    handler = Eco2CallbackHandler(registry=registry)

    FakeModel().invoke("hello", {"callbacks": [handler]})

    assert _thread(handler) is None


def test_a_forked_worker_shows_its_budgets_and_the_outage_of_its_ledger(tmp_path: Path) -> None:
    """The files for the reader have both without a flush, also those of a process forked while its parent updates."""
    program = """
import os, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector
from eco2_callbacks import BudgetRule, Budgets, Eco2CallbackHandler, LedgerSink
from eco2_callbacks.prometheus import instruments
from tests.support.fake_model import FakeModel
instruments._IDLE_SECONDS = 0.01

def show(pid):
    own = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"], f"gauge_livemax_{pid}.db")
    give_up_at = time.monotonic() + 120
    values = {}
    while time.monotonic() < give_up_at:
        # An empty file cannot be read: prometheus-client is about to fill it.
        if own.exists() and own.stat().st_size:
            families = MultiProcessCollector.merge([str(own)])
            values = {sample.name: sample.value for family in families for sample in family.samples}
        if values.get("budget_limit_dollars") == 100 and values.get("ledger_lag_seconds"):
            print("shown", flush=True)
            return
        time.sleep(0.01)
    print("missing", values, flush=True)

ledger = LedgerSink("postgresql://nobody@127.0.0.1:1/none", spool=sys.argv[2], needs_backend=False)
budgets = Budgets(rules=[BudgetRule(name="all", limit_usd="100", window="day")])
handler = Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets, ledger=ledger)
FakeModel().invoke("hello", {"callbacks": [handler]})
show(os.getpid())
child = os.fork()
if child == 0:
    FakeModel().invoke("hello", {"callbacks": [handler]})
    show(os.getpid())
    os._exit(0)
os.waitpid(child, 0)
os._exit(0)
"""
    folder = tmp_path / "metrics"
    folder.mkdir()

    completed = subprocess.run(
        [sys.executable, "-c", program, str(Path(__file__).parents[2]), str(tmp_path / "spool")],
        env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=True,
        timeout=500,
    )

    assert completed.stdout == "shown\nshown\n"


def test_the_lag_of_several_processes_is_the_highest_one(tmp_path: Path) -> None:
    """Processes that share a spool have one lag: it is not added up."""
    worker = (
        "from prometheus_client import CollectorRegistry\n"
        "from eco2_callbacks.prometheus import LedgerMetrics\n"
        "class Ledger:\n"
        "    def lag_seconds(self): return 7.0\n"
        "ledger, registry = Ledger(), CollectorRegistry()\n"
        "metrics = LedgerMetrics(registry, 'postgres', lag_seconds=ledger.lag_seconds, on_failure=print)\n"
        "metrics.on_stored('postgres', 1)\n"
    )
    reader = (
        "from prometheus_client import CollectorRegistry\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "registry = CollectorRegistry(); MultiProcessCollector(registry)\n"
        "print(registry.get_sample_value('ledger_lag_seconds', {'backend': 'postgres'}))\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    for _ in range(2):
        subprocess.run([sys.executable, "-c", worker], env=environment, check=True)
    read = subprocess.run([sys.executable, "-c", reader], env=environment, check=True, capture_output=True, text=True)

    assert read.stdout == "7.0\n"
