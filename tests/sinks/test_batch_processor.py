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
from eco2_callbacks import ConfigError, Eco2CallbackHandler, LLMCall
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed


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
            "Sink Gated is slow; from now on no call waits for it. Give it a close(), and none ever does."
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
    """What a hanging sink had not taken when its time was over is counted as lost."""
    monkeypatch.setattr(eco2_callbacks.sinks, "_CLOSE_SECONDS", 0.05)
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    for _ in range(4):
        handler.emit(a_call())

    handler.close()

    assert failures(registry, "overflow") == 3
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
    (said, *close_said) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f" raised in emit (run {records.calls[0].run_id}); the application is not affected." in said
    assert close_said == []  # once a minute


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
from tests.support.fake_model import FakeModel

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

    subprocess.run([sys.executable, "-c", program, str(Path(__file__).parents[2]), str(written)], check=True)

    assert written.read_text().splitlines() == ["gpt-5.2-2025-12-11"] * 20


def test_a_sink_that_becomes_slow_is_waited_for_twice(registry: CollectorRegistry) -> None:
    """A sink in memory that begins to wait for something holds two calls up, and no later one."""
    sink = Gated()
    sink.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    handler.emit(a_call())
    handler.emit(a_call())
    assert "MainThread" in sink.threads
    assert len(sink.all) == 2
    sink.open.clear()

    for _ in range(2):
        threading.Timer(0.1, sink.open.set).start()
        handler.emit(a_call())
        sink.open.clear()
    for _ in range(3):
        handler.emit(a_call())

    assert len(sink.all) == 4
    sink.open.set()
    handler.close()
    assert len(sink.all) == 7


@pytest.mark.parametrize("sink", [print, None, object()], ids=["function", "nothing", "object"])
def test_what_is_no_sink_is_refused(sink: Any) -> None:
    """A mistake in sinks= is told at the start, and not at every record."""
    with pytest.raises(ConfigError, match="wanted objects with a plain method emit"):
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink])


def test_a_sink_of_coroutines_is_refused() -> None:
    """Nobody would await what it returns."""

    class Awaited:
        async def emit(self, record: Any) -> None: ...

    with pytest.raises(ConfigError, match="Awaited object"):
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[Awaited()])


def test_every_sink_has_the_same_ten_seconds(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging sink does not take the time of the one after it, which is closed with all it was given."""
    monkeypatch.setattr(eco2_callbacks.sinks, "_CLOSE_SECONDS", 0.2)
    hanging, working = GatedFile(), GatedFile()
    working.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[hanging, working])
    handler.emit(a_call())

    handler.close()

    assert (hanging.closed_after, working.closed_after) == (None, 1)
    handler.close()
    assert working.closed_after == 1
    hanging.open.set()


def test_a_sink_that_ends_its_thread_goes_on(registry: CollectorRegistry) -> None:
    """SystemExit in a sink is a failure like any other, for a sink with I/O and for one without."""

    class Leaving(Records):
        def emit(self, record: Any) -> None:
            super().emit(record)
            raise SystemExit(1)

    class LeavingFile(Leaving):
        def close(self) -> None: ...

    sinks = [Leaving(), LeavingFile()]
    handler = Eco2CallbackHandler(registry=registry, sinks=sinks)
    for _ in range(3):
        handler.emit(a_call())
    handler.close()

    assert [len(sink.all) for sink in sinks] == [3, 3]
    assert failures(registry, "emit") == 6
