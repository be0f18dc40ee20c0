"""A spool with damaged batches ships the others; SQLite has no checksums of what is in a cell."""

from __future__ import annotations

import logging
import os
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import backend_of, forget_user
from eco2_callbacks.ledger.backends import Rows
from eco2_callbacks.ledger.local_file import FileLock
from eco2_callbacks.ledger.row_encoding import encode_rows, try_decode_rows
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.spool import Spool
from tests.ledger.test_faults import Losses
from tests.support.ledger_records import call, count, query

_FLUSH_SECONDS = 120.0
# How a batch is damaged: another type in the middle, its end cut off, and a text that is no UTF-8.
_DAMAGES = {
    "type": "CAST(substr(rows, 1, 100) || x'c1' || substr(rows, 102) AS BLOB)",
    "end": "substr(rows, 1, length(rows) / 2)",
    "text": "CAST(x'ff' AS TEXT)",
}


def _fill(url: str, users: list[str]) -> Path:
    """Have batches with one call each wait in a spool; return its path."""
    with LedgerSink(url) as sink:
        # As at the end of a process that has no time: what is written stays.
        sink._store._shipper._closing.set()  # type: ignore[union-attr]
        for user in users:
            sink.emit(call(user_id=user))
            assert sink._writer.flush(_FLUSH_SECONDS)
        return sink._store._spool.path  # type: ignore[union-attr]


def _damage(path: Path, batch: int, how: str) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(f"UPDATE batches SET rows = {_DAMAGES[how]} WHERE id = ?", (batch,)).rowcount == 1
    connection.commit()
    connection.close()


def _break(path: Path) -> None:
    """Overwrite the page that each insert needs and no reading does: the file is corrupt, and its batches are whole."""
    connection = sqlite3.connect(path)
    ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_sequence'")
    ((size,),) = connection.execute("PRAGMA page_size")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with open(path, "r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)


def _spool_of(path: Path, *oldest: float) -> Spool:
    """Return a spool with batches of one record."""
    spool = Spool(path, max_bytes=2**20)
    for each in oldest:
        spool.append(Batch([call()], at=each))
    return spool


def _waiting(spool: Spool) -> list[float]:
    return [batch.oldest for batch in spool.read(100)]


@pytest.mark.parametrize("how", _DAMAGES)
def test_a_damaged_batch_is_set_aside_and_holds_nothing_back(
    postgres: Any, spool: Path, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The batches around it are shipped; its own bytes are kept in a file, named in the log and counted."""
    url = postgres.new_database()
    path = _fill(url, ["ann", "bob", "eve"])
    _damage(path, 2, how)

    losses = Losses()
    with caplog.at_level(logging.ERROR), LedgerSink(url) as sink:
        sink.watch(losses)
        sink.emit(call(user_id="zoe"))
        assert sink.flush(_FLUSH_SECONDS)
        assert sink.lag_seconds() == 0

    assert {user for (user,) in query(url, "SELECT user_id FROM calls")} == {"ann", "eve", "zoe"}
    (aside,) = spool.glob("*.spool.corrupt-*")
    assert aside.read_bytes()
    assert os.stat(aside).st_mode & 0o077 == 0
    assert losses.lost == {"corrupt": 1}
    assert len([record for record in caplog.records if "cannot be decoded" in record.message]) == 1


def test_forgetting_a_user_passes_a_damaged_batch(postgres: Any, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The other batches lose the user's ids; the log names the file that may still hold them."""
    url = postgres.new_database()
    path = _fill(url, ["mallory", "bob", "mallory"])
    _damage(path, 1, "end")
    backend = backend_of(url)

    forget_user(backend, "mallory")

    backend.close()
    (aside,) = spool.glob("*.spool.corrupt-*")
    assert str(aside) in caplog.text
    with LedgerSink(url) as sink:
        assert sink.flush(_FLUSH_SECONDS)
    assert {user for (user,) in query(url, "SELECT user_id FROM calls")} == {None, "bob"}


def test_a_corrupt_spool_keeps_what_comes_after_a_damaged_batch(tmp_path: Path) -> None:
    """A file that is replaced takes its readable batches along, and counts the records of the others."""
    path = tmp_path / "some.spool"
    spool = Spool(path, max_bytes=2**20)
    for _ in range(3):
        spool.append(Batch([call(), call()], at=1.0))
    spool.close()
    _damage(path, 1, "type")
    _break(path)

    lost = spool.salvage()

    assert lost == 2
    assert [batch.records for batch in spool.read(100)] == [2, 2]
    spool.close()


def test_threads_that_find_a_spool_corrupt_replace_it_once(tmp_path: Path) -> None:
    """The writer and the shipper meet the same damage: the second one leaves the new file alone."""
    spool = _spool_of(tmp_path / "some.spool", 1.0, 2.0)
    spool.close()
    _break(spool.path)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        spool.append(Batch([call()], at=3.0))
    reached, goes_on = threading.Event(), threading.Event()
    move_aside = spool._file.move_aside

    def slow() -> Path | None:
        reached.set()
        assert goes_on.wait(_FLUSH_SECONDS)
        return move_aside()

    spool._file.move_aside = slow  # type: ignore[method-assign]
    lost: list[int] = []
    threads = [threading.Thread(target=lambda: lost.append(spool.salvage())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert reached.wait(_FLUSH_SECONDS)
    goes_on.set()
    for thread in threads:
        thread.join()
    spool.append(Batch([call()], at=3.0))

    lost.append(spool.salvage())

    assert lost == [0, 0, 0]
    assert _waiting(spool) == [1.0, 2.0, 3.0]
    assert len(list(tmp_path.glob("*.corrupt-*"))) == 1
    spool.close()


def test_a_spool_that_is_replaced_twice_at_once_keeps_both_files(tmp_path: Path) -> None:
    """Names of files that are moved aside within a second differ."""
    spool = _spool_of(tmp_path / "some.spool", 1.0)
    for _ in range(2):
        spool.close()
        _break(spool.path)
        assert spool.salvage() == 0

    assert len(list(tmp_path.glob("*.corrupt-*"))) == 2
    assert _waiting(spool) == [1.0]
    spool.close()


def test_batches_on_their_way_leave_no_gap_in_a_spool_begun_anew(tmp_path: Path) -> None:
    """The new file gives their ids to batches that were never sent; these stay."""
    spool = _spool_of(tmp_path / "some.spool", 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)
    spool.remove(spool.read(2))
    sent = spool.read(2)
    spool.close()
    _break(spool.path)
    assert spool.salvage() == 0

    spool.remove(sent)

    assert {5.0, 6.0} <= set(_waiting(spool))
    spool.close()


def test_a_process_follows_a_shared_spool_that_another_one_has_replaced(tmp_path: Path) -> None:
    """What it wrote before is taken over, what it writes later is in the new file, and it sees what waits there."""
    path = tmp_path / "some.spool"
    other = _spool_of(path)
    spool = _spool_of(path, 1.0)
    spool.close()
    other.close()
    _break(path)
    # Both have the damaged file open.
    assert (spool.oldest(), other.oldest()) == (1.0, 1.0)

    assert spool.salvage() == 0
    spool.remove(spool.read(100))
    seen = other.oldest()
    assert other.salvage() == 0
    other.append(Batch([call()], at=2.0))

    assert seen is None
    assert _waiting(spool) == _waiting(other) == [2.0]
    spool.close()
    other.close()


def test_a_batch_of_the_moment_in_which_a_shared_spool_is_replaced_is_kept(tmp_path: Path) -> None:
    """It is in the new file: either it was read from the old one, or its process writes it once more."""
    path = tmp_path / "some.spool"
    writer, other = _spool_of(path, 1.0), _spool_of(path, 2.0)
    connection = writer._file.connection

    def moved() -> sqlite3.Connection:
        """Return the connection to a file that another process moves aside before it is used."""
        opened = connection()
        writer._file.connection = connection  # type: ignore[method-assign]
        aside = other._file.move_aside()
        assert aside is not None
        other._take_over(aside)
        return opened

    writer._file.connection = moved  # type: ignore[method-assign]
    writer.append(Batch([call()], at=3.0))

    assert sorted(_waiting(writer)) == sorted(_waiting(other)) == [1.0, 2.0, 3.0]
    writer.close()
    other.close()


def test_a_batch_that_comes_before_the_move_is_taken_over(tmp_path: Path) -> None:
    """A process that finds the spool corrupt reads it after it has moved it."""
    path = tmp_path / "some.spool"
    finder, writer = _spool_of(path, 1.0), _spool_of(path)
    move_aside = finder._file.move_aside

    def late() -> Path | None:
        writer.append(Batch([call()], at=2.0))
        return move_aside()

    finder._file.move_aside = late  # type: ignore[method-assign]
    finder._is_sound = lambda: False  # type: ignore[method-assign]

    assert finder.salvage() == 0

    assert _waiting(finder) == [1.0, 2.0]
    finder.close()
    writer.close()


def test_damage_anywhere_is_found_or_decodes() -> None:
    """Whatever byte is changed, a batch is decoded to whole rows or found to be damaged, without another error."""
    rng = random.Random(7)
    encoded = encode_rows({name: rows for name, rows in Batch([call() for _ in range(3)]).rows.items() if rows})
    assert try_decode_rows(encoded) is not None
    found = 0
    for _ in range(2000):
        damaged = bytearray(encoded)
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)

        found += try_decode_rows(bytes(damaged)) is None

    assert found > 100


def test_a_spool_that_cannot_be_read_is_tried_again(postgres: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the disk while the spool is looked at ends neither a flush nor the thread that ships."""
    url = postgres.new_database()
    oldest, failures = Spool.oldest, iter([sqlite3.OperationalError("disk I/O error")] * 5)

    def failing(self: Spool) -> float | None:
        for error in failures:
            raise error
        return oldest(self)

    with LedgerSink(url) as sink:
        monkeypatch.setattr(Spool, "oldest", failing)
        sink.emit(call())
        assert sink.flush(_FLUSH_SECONDS)

    assert count(url, "calls") == 1


def test_a_batch_on_its_way_is_forgotten_too(postgres: Any, spool: Path) -> None:
    """``forget_user`` waits for rows that are being sent: they would bring the ids back."""
    url = postgres.new_database()
    sent, goes_on = threading.Event(), threading.Event()
    with LedgerSink(url) as sink:
        store = sink._backend.store

        def slow(batches: Sequence[Rows]) -> None:
            sent.set()
            assert goes_on.wait(_FLUSH_SECONDS)
            store(batches)

        sink._backend.store = slow  # type: ignore[method-assign]
        sink.emit(call(user_id="mallory", session_id="s-mallory"))
        assert sent.wait(_FLUSH_SECONDS)
        backend = backend_of(url)
        forgetting = threading.Thread(target=forget_user, args=(backend, "mallory"))
        forgetting.start()
        (path,) = spool.glob("*.spool")
        # It has the turn: whoever ships stops after this batch.
        turn = FileLock(path.with_name(f"{path.name}.turn"))
        while forgetting.is_alive() and turn.acquire():
            turn.release()
            time.sleep(0.01)
        goes_on.set()
        forgetting.join(_FLUSH_SECONDS)
        assert not forgetting.is_alive()
        assert sink.flush(_FLUSH_SECONDS)
        backend.close()

    assert query(url, "SELECT user_id, session_id FROM calls") == [(None, None)]
