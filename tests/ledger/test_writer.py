"""The writer's thread: what is durable when, and what becomes of a write that fails."""

from __future__ import annotations

import errno
import gc
import sqlite3
import threading
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.writer import RecordWriter
from tests.ledger.test_faults import Losses, _wait_until
from tests.support.ledger_records import call, count, query

_MAX_WAIT_SECONDS = 120.0


def test_the_application_never_waits_for_a_slow_disk() -> None:
    """``submit`` returns while a write hangs; what exceeds the bound is counted at once."""
    lost: list[tuple[int, str]] = []
    release = threading.Event()
    writer = RecordWriter(
        "test",
        write=lambda batch: release.wait(_MAX_WAIT_SECONDS) and None,
        on_lost=lambda records, reason: lost.append((records, reason)),
        on_failure=lambda: None,
        on_refused=lambda rows: None,
        max_waiting=10,
        is_at_once=False,
    )

    writer.submit(call())
    _wait_until(lambda: not writer._waiting)
    for _ in range(15):
        writer.submit(call())

    assert lost == [(1, "overflow")] * 5
    release.set()
    writer.close(_MAX_WAIT_SECONDS)


def test_a_record_is_durable_when_emit_returns_at_once(tmp_path: Path) -> None:
    """With ``durable_at_once`` the row is committed before ``emit`` returns."""
    path = tmp_path / "ledger.db"
    with LedgerSink(path, durable_at_once=True) as sink:
        for number in range(1, 6):
            sink.emit(call())
            assert count(path, "calls") == number


def test_a_record_of_the_writers_own_thread_is_durable_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``durable_at_once`` a record of a job, or of a finaliser in one, is written when ``emit`` returns."""
    monkeypatch.setattr("eco2_callbacks.ledger.writer._AT_ONCE_SECONDS", 10_000)
    path = tmp_path / "ledger.db"
    found: list[bool] = []

    class Abandoned:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            write()

    def write() -> None:
        made = call()
        sink.emit(made)
        found.append((str(made.run_id),) in query(path, "SELECT run_id FROM calls"))

    with LedgerSink(path, durable_at_once=True) as sink:
        sink.emit(call())
        sink.run_soon(write)
        Abandoned()
        sink.run_soon(lambda: gc.collect() and None)
        assert sink.flush(_MAX_WAIT_SECONDS)

    assert found == [True, True]


def test_a_record_that_comes_while_its_thread_writes_is_written_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finaliser inside the writing of a batch does not wait for its own thread."""
    monkeypatch.setattr("eco2_callbacks.ledger.writer._AT_ONCE_SECONDS", 10_000)
    losses = Losses()
    with LedgerSink(tmp_path / "ledger.db", durable_at_once=True) as sink:
        sink.watch(losses)
        write = sink._writer._write

        def interrupted(batch: Batch) -> None:
            if losses.stored < 2:
                sink.emit(call())
            write(batch)

        sink._writer._write = interrupted
        sink.emit(call())
        assert sink.flush(_MAX_WAIT_SECONDS)

    assert count(tmp_path / "ledger.db", "calls") == losses.stored == 3


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk_full"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk_full"),
        (PermissionError(errno.EACCES, "Permission denied"), "overflow"),
        (sqlite3.OperationalError("database is locked"), "overflow"),
    ],
    ids=["space", "quota", "permission", "locked"],
)
def test_records_that_wait_for_a_failing_write_are_lost_for_its_reason(error: Exception, reason: str) -> None:
    """Only a disk that takes no more is ``disk_full``; whatever else fails lets too many records wait."""
    lost: list[tuple[int, str]] = []

    def write(batch: Batch) -> None:
        raise error

    writer = RecordWriter(
        "test",
        write=write,
        on_lost=lambda records, why: lost.append((records, why)),
        on_failure=lambda: None,
        on_refused=lambda rows: None,
        max_waiting=10,
        is_at_once=False,
    )
    writer.submit(call())
    _wait_until(lambda: writer._failures > 0)

    writer.close(0.0)

    _wait_until(lambda: bool(lost))
    assert lost == [(1, reason)]


@pytest.mark.parametrize(
    ("error", "lost_later"),
    [(None, 0), (OSError(errno.ENOSPC, "No space left on device"), 2), (ValueError("a row is refused"), 2)],
    ids=["stored", "failed", "refused"],
)
def test_a_batch_that_is_being_written_when_close_gives_up_is_counted_once(
    error: Exception | None, lost_later: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are lost only where the write fails; a record that waits behind it is lost at once."""
    lost: list[int] = []
    begun, release = threading.Event(), threading.Event()

    def write(batch: Batch) -> None:
        begun.set()
        assert release.wait(_MAX_WAIT_SECONDS)
        if error is not None:
            raise error

    writer = RecordWriter(
        "test",
        write=write,
        on_lost=lambda records, why: lost.append(records),
        on_failure=lambda: None,
        on_refused=lambda rows: None,
        max_waiting=10,
        is_at_once=False,
    )
    # Both are in one batch: nothing is taken before the job in front ends.
    held = threading.Event()
    writer.run_soon(lambda: held.wait(_MAX_WAIT_SECONDS) and None)
    writer.submit(call())
    writer.submit(call())
    held.set()
    assert begun.wait(_MAX_WAIT_SECONDS)
    writer.submit(call())
    thread = writer._worker._queue._thread
    assert thread is not None

    close = writer._worker.close
    monkeypatch.setattr(writer._worker, "close", lambda seconds: close(0.0))  # which waits for a second otherwise
    writer.close(0.0)
    lost_at_close = sum(lost)
    release.set()
    _wait_until(lambda: not thread.is_alive())

    assert lost_at_close == 1
    assert sum(lost) == 1 + lost_later
