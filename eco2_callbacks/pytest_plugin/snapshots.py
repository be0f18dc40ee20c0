"""Snapshots: files that hold what each test's model calls consumed and cost."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.pytest_plugin.figures import CostRow
from eco2_callbacks.pytest_plugin.table import cost_diff, cost_table

__all__ = ["Snapshots"]

_FOLDER = "__cost_snapshots__"
_REMEDY = "Run pytest --cost-snapshot=update to accept it."


class Snapshots:
    """The snapshot files of a test suite: one beside each test module, in ``__cost_snapshots__``.

    Args:
        root: pytest's root folder; node ids start there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[Path, dict[str, list[CostRow]]] = {}

    def has_module(self, node_id: str) -> bool:
        """Return whether the module of a test has a snapshot file."""
        return self._path(node_id).is_file()

    def compare(self, node_id: str, rows: Sequence[CostRow]) -> str | None:
        """Return how a test differs from its snapshot; None if it does not."""
        expected = self._load(self._path(node_id)).get(_name(node_id))
        if expected is None:
            return (
                None if not rows else f"The model calls of this test are in no snapshot. {_REMEDY}\n{cost_table(rows)}"
            )
        if expected == list(rows):
            return None
        return f"The model calls of this test differ from its snapshot. {_REMEDY}\n{cost_diff(expected, rows)}"

    def update(self, rows_by_test: Mapping[str, Sequence[CostRow]]) -> list[Path]:
        """Write the rows of tests that were run, drop those that made no call, and return the changed files."""
        changed: dict[Path, dict[str, list[CostRow]]] = {}
        for node_id, rows in rows_by_test.items():
            path = self._path(node_id)
            entries = changed.setdefault(path, dict(self._load(path)))
            if rows:
                entries[_name(node_id)] = list(rows)
            else:
                entries.pop(_name(node_id), None)
        return [path for path, entries in changed.items() if self._write(path, entries)]

    def _path(self, node_id: str) -> Path:
        module = self._root / node_id.partition("::")[0]
        return module.parent / _FOLDER / f"{module.stem}.json"

    def _load(self, path: Path) -> dict[str, list[CostRow]]:
        if path not in self._read:
            try:
                content = path.read_bytes()
                self._read[path] = msgspec.json.decode(content, type=dict[str, list[CostRow]])
            except FileNotFoundError:
                self._read[path] = {}
            except msgspec.MsgspecError as error:
                raise ConfigError(
                    f"The snapshot {str(path)!r} cannot be read: {error}. "
                    "Delete it and run pytest --cost-snapshot=update."
                ) from error
        return self._read[path]

    def _write(self, path: Path, entries: dict[str, list[CostRow]]) -> bool:
        if entries == self._load(path):
            return False
        if not entries:
            path.unlink(missing_ok=True)
            return True
        path.parent.mkdir(exist_ok=True)
        text = msgspec.json.format(msgspec.json.encode(dict(sorted(entries.items()))), indent=1)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_bytes(text + b"\n")
        temporary.replace(path)
        return True


def _name(node_id: str) -> str:
    return node_id.partition("::")[2]
