"""Sinks of the application's: a slow, hanging or raising one delays nobody, and what it loses is said."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import eco2_callbacks.sinks
from conftest import Records, exposed
from eco2_callbacks import Eco2CallbackHandler, LLMCall
from fakes import FakeModel


def failures(registry: CollectorRegistry, callback: str) -> float | None:
    return registry.get_sample_value("eco2_callbacks_errors_total", {"callback": callback})


def a_call() -> LLMCall:
    run_id = uuid.uuid4()
    return LLMCall(run_id=run_id, trace_id=run_id, started_at=datetime.now(UTC), duration_seconds=1.0)


class Gated(Records):
    """Takes no record until it is let, and remembers on which threads it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.threads: set[str] = set()

    def emit(self, record: Any) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(20)
        super().emit(record)


class GatedFile(Gated):
    """The same as a sink with I/O, which can be closed."""

    closed_after: int | None = None

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed_after = len(self.all)


async def test_a_sink_in_memory_has_its_record_when_the_call_returns(registry: CollectorRegistry) -> None:
    """A test that passes a list of its own finds there what it asked for."""
    records = Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    for number in range(50):
        await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

        assert len(records.calls) == number + 1


@pytest.mark.parametrize("kind", [Gated, GatedFile])
async def test_a_sink_that_hangs_delays_nobody(
    registry: CollectorRegistry, kind: type[Gated], caplog: pytest.LogCaptureFixture
) -> None:
    """While a sink waits, calls are answered, streamed and counted, on every thread; then it gets all, in order."""
    sink = kind()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    config: Any = {"callbacks": [handler]}

    async for _ in FakeModel().astream("hello", config=config):
        pass
    for _ in range(20):
        await FakeModel().ainvoke("hello", config=config)
    thread = threading.Thread(target=lambda: FakeModel().invoke("hello", config=config))
    thread.start()
    thread.join(10)

    assert not thread.is_alive()
    assert sink.all == []
    assert b"llm_calls_total" in generate_latest(registry)
    assert exposed(registry, "llm_calls_total") == 22
    sink.open.set()
    handler.close()
    assert len(sink.calls) == 22
    assert [call.started_at for call in sink.calls] == sorted(call.started_at for call in sink.calls)
    assert sink.threads == {f"eco2-sink-{kind.__name__}"}
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    if isinstance(sink, GatedFile):
        assert sink.closed_after == 22
        assert warned == []
    else:
        assert warned == [
            "Sink Gated took longer than 0.25 seconds over a record; from now on no call waits for it. "
            "A sink that does I/O is never waited for if it has a close()."
        ]


def test_what_a_full_queue_loses_is_counted_and_said_once(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded; every record beyond it is counted, and the log says what happens."""
    monkeypatch.setattr(eco2_callbacks.sinks, "_MOST_WAITING", 10)
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    handler.emit(a_call())
    while not sink.threads:  # it holds the first one
        threading.Event().wait(0.001)

    for _ in range(10):
        handler.emit(a_call())
    assert failures(registry, "overflow") == 0
    for _ in range(3):
        handler.emit(a_call())

    assert failures(registry, "overflow") == 3
    sink.open.set()
    handler.close()
    assert len(sink.all) == 11
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert errors == [
        "Sink GatedFile takes records slower than they come: 10 wait, or it was closed before it had taken all. "
        'Records are lost; each is counted in eco2_callbacks_errors_total{callback="overflow"}.'
    ]


def test_a_close_does_not_wait_for_ever(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hanging sink had not taken when its time was over is counted as lost, its close included."""
    monkeypatch.setattr(eco2_callbacks.sinks, "_CLOSE_SECONDS", 0.05)
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    for _ in range(4):
        handler.emit(a_call())

    handler.close()

    assert failures(registry, "overflow") == 3 + 1
    assert "was closed before it had taken all" in caplog.text
    sink.open.set()


@pytest.mark.parametrize("closes", [False, True])
def test_a_raising_sink_harms_itself_only(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, closes: bool
) -> None:
    """Its exceptions are logged with the run and counted; the sink after it gets everything."""

    class Raising:
        def emit(self, record: Any) -> None:
            raise ConnectionError("no database")

    class RaisingFile(Raising):
        def close(self) -> None:
            raise ConnectionError("no database")

    records = Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[RaisingFile() if closes else Raising(), records])
    for _ in range(3):
        FakeModel().invoke("hello", config={"callbacks": [handler]})
    handler.close()

    assert len(records.calls) == 3
    assert failures(registry, "emit") == 3
    assert failures(registry, "close") == int(closes)
    assert f"emit failed for run {records.calls[0].run_id}" in caplog.text


def test_a_sink_may_use_a_model_itself(registry: CollectorRegistry) -> None:
    """A record made by what a sink does with another one does not wait for itself."""

    class Judge(Records):
        def emit(self, record: Any) -> None:
            super().emit(record)
            if len(self.all) < 3:
                FakeModel().invoke("is this good?", config={"callbacks": [handler]})

    judge = Judge()
    handler = Eco2CallbackHandler(registry=registry, sinks=[judge])

    FakeModel().invoke("hello", config={"callbacks": [handler]})
    handler.close()

    assert len(judge.calls) == 3


def test_the_end_of_the_process_waits_for_what_was_emitted(tmp_path: Path) -> None:
    """A program that forgets to close its handler loses nothing of a sink that is a little slow."""
    program = """
import sys, time
sys.path.insert(0, sys.argv[1])
from eco2_callbacks import Eco2CallbackHandler
from fakes import FakeModel

class File:
    def emit(self, record):
        time.sleep(0.02)
        with open(sys.argv[2], "a") as file:
            print(record.model, file=file)
    def close(self): ...

handler = Eco2CallbackHandler(sinks=[File()])
for _ in range(20):
    FakeModel().invoke("hello", config={"callbacks": [handler]})
"""
    written = tmp_path / "records"

    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parent), str(written)], check=True)

    assert written.read_text().splitlines() == ["gpt-5.2-2025-12-11"] * 20


def test_a_sink_that_becomes_slow_is_waited_for_once(registry: CollectorRegistry) -> None:
    """A sink in memory that begins to wait for something holds one call up, and no later one."""
    sink = Gated()
    sink.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    handler.emit(a_call())
    handler.emit(a_call())
    assert "MainThread" in sink.threads
    assert len(sink.all) == 2
    sink.open.clear()

    threading.Timer(0.3, sink.open.set).start()
    handler.emit(a_call())
    sink.open.clear()
    handler.emit(a_call())

    assert len(sink.all) == 3
    sink.open.set()
    handler.close()
    assert len(sink.all) == 4
