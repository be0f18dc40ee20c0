"""The application's sinks: a slow, hanging or raising sink delays no call, and lost records are counted."""

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

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LLMCall
from eco2_callbacks.sinks import batch_processor
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed


def failures(registry: CollectorRegistry, callback: str) -> float | None:
    return registry.get_sample_value("eco2_callbacks_errors_total", {"callback": callback})


def a_call() -> LLMCall:
    run_id = uuid.uuid4()
    return LLMCall(run_id=run_id, trace_id=run_id, started_at=datetime.now(UTC), duration_seconds=1.0)


class Gated(Records):
    """Blocks in emit until it is opened, and records the names of the threads that call it."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.threads: set[str] = set()

    def emit(self, record: Any) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.open.wait(20)
        super().emit(record)


class GatedFile(Gated):
    """The same with a close(), like a sink with I/O."""

    closed_after: int | None = None

    def close(self) -> None:
        self.threads.add(threading.current_thread().name)
        self.closed_after = len(self.all)


async def test_a_sink_in_memory_has_its_record_when_the_call_returns(registry: CollectorRegistry) -> None:
    """A sink without a close() has each record as soon as the call returns."""
    records = Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    for number in range(50):
        await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

        assert len(records.calls) == number + 1


async def test_a_hanging_sink_with_close_delays_no_call(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """While a sink hangs, calls are answered and counted on every thread; later it gets all records in order."""
    sink = GatedFile()
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
    assert sink.threads == {"eco2-sink-GatedFile"}
    assert sink.closed_after == 22
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_sink_without_close_is_called_inline(registry: CollectorRegistry) -> None:
    """It is called on the thread of each event."""
    sink = Gated()
    sink.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])

    for _ in range(3):
        handler.emit(a_call())

    assert sink.threads == {threading.current_thread().name}
    assert len(sink.all) == 3


def test_flush_waits_for_queued_records(registry: CollectorRegistry) -> None:
    """After flush() a sink has every record so far; flush() says whether the time sufficed."""
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    handler.emit(a_call())

    assert not handler.flush(0.02)
    sink.open.set()
    assert handler.flush(20)
    assert len(sink.all) == 1
    handler.close()


def test_a_closed_handler_hands_over_no_record(registry: CollectorRegistry) -> None:
    """A record after close() is counted as lost, and no sink is closed twice."""
    inline, queued = Gated(), GatedFile()
    inline.open.set()
    queued.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[inline, queued])
    handler.emit(a_call())
    handler.close()

    handler.emit(a_call())
    handler.close()

    assert (len(inline.all), len(queued.all), queued.closed_after) == (1, 1, 1)
    assert failures(registry, "overflow") == 2


def test_records_lost_by_a_full_queue_are_counted_and_logged_once(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is bounded, every record beyond it is counted, and one log line says so."""
    monkeypatch.setattr(batch_processor, "_MAX_WAITING", 10)
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    handler.emit(a_call())
    while not sink.threads:  # the sink is blocked with the first record
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
        "Sink GatedFile lost a record: 10 records wait already, or the handler was closed. "
        'Each lost record is counted in eco2_callbacks_errors_total{callback="overflow"}.'
    ]


def test_close_does_not_wait_for_ever(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records that a hanging sink has not taken before the timeout count as lost."""
    monkeypatch.setattr(batch_processor, "_CLOSE_SECONDS", 0.05)
    sink = GatedFile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[sink])
    for _ in range(4):
        handler.emit(a_call())

    handler.close()

    assert failures(registry, "overflow") == 3
    assert "Sink GatedFile lost a record" in caplog.text
    sink.open.set()


@pytest.mark.parametrize("closes", [False, True])
def test_a_raising_sink_affects_no_other_sink(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, closes: bool
) -> None:
    """Its exceptions are logged with the run and counted; the next sink gets every record."""

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
    (logged, *logged_at_close) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert f" raised in emit (run {records.calls[0].run_id}); the application is not affected." in logged
    assert logged_at_close == []  # logged once a minute


def test_a_sink_may_use_a_model_itself(registry: CollectorRegistry) -> None:
    """A record that a sink causes while it handles another one does not wait for itself."""

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


@pytest.mark.slow
def test_the_end_of_the_process_waits_for_queued_records(tmp_path: Path) -> None:
    """A program that does not close its handler loses no record of a slightly slow sink."""
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


@pytest.mark.parametrize("sink", [print, None, object()], ids=["function", "nothing", "object"])
def test_an_object_without_emit_is_refused(sink: Any) -> None:
    """A mistake in sinks= is an error at construction, not at every record."""
    with pytest.raises(ConfigError, match="wanted objects with a plain method emit"):
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink])


def test_a_sink_with_an_async_emit_is_refused() -> None:
    """Nothing would await the coroutine of an async emit."""

    class AsyncSink:
        async def emit(self, record: Any) -> None: ...

    with pytest.raises(ConfigError, match="AsyncSink object"):
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[AsyncSink()])


def test_every_sink_has_the_same_ten_seconds(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging sink does not use up the time of the next one, which gets all its records before its close()."""
    monkeypatch.setattr(batch_processor, "_CLOSE_SECONDS", 0.2)
    hanging, working = GatedFile(), GatedFile()
    working.open.set()
    handler = Eco2CallbackHandler(registry=registry, sinks=[hanging, working])
    handler.emit(a_call())

    handler.close()

    assert (hanging.closed_after, working.closed_after) == (None, 1)
    handler.close()
    assert working.closed_after == 1
    hanging.open.set()


def test_a_sink_that_raises_system_exit_keeps_working(registry: CollectorRegistry) -> None:
    """SystemExit in a sink is a failure like any other, with and without a close()."""

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
