"""A ledger's file that another process replaces while this one writes to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import Schema, backend_of
from eco2_callbacks.ledger.backends.sqlite import SQLiteBackend
from tests.ledger.test_faults import Losses
from tests.support.ledger_records import call, count


def _move_aside(path: Path) -> None:
    """Do what another process does that finds the file corrupt, up to its end before it makes the tables."""
    other = backend_of(path)
    assert isinstance(other, SQLiteBackend)
    other.file.connection()
    assert other.file.move_aside() is not None
    other.close()


def _move_aside_and_go_on(path: Path) -> None:
    _move_aside(path)
    other = backend_of(path)
    Schema(other).open()
    other.close()


def _delete(path: Path) -> None:
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()


@pytest.mark.parametrize("replace", [_move_aside, _move_aside_and_go_on, _delete])
def test_records_after_the_file_was_replaced_are_in_the_new_one(
    tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    """A process that has the file open goes on in the one that is there now, and no record is lost."""
    path = tmp_path / "ledger.db"
    losses = Losses()
    with LedgerSink(path) as sink:
        sink.watch(losses)
        sink.emit(call())
        assert sink.flush()

        replace(path)
        for _ in range(2):
            sink.emit(call())
            assert sink.flush()

    assert count(path, "calls") == 2
    assert losses.lost == {}
    assert losses.stored == 3
