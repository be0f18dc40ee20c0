"""The public price data of genai-prices, imported with the first price that is looked up.

The import takes 20 ms, and ten times as long in a process that caches no bytecode. Most processes make their handler
long before their first call, and some never make a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from eco2_callbacks import forks

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["is_loaded", "snapshot"]


class _Loading(forks.ForkAware):
    """Keeps a fork out while a thread imports: a child would wait for ever for the lock of the module."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        # genai-prices' own function, once the data is imported.
        self.get_snapshot: Callable[[], DataSnapshot] | None = None
        forks.register(self)

    def load(self) -> Callable[[], DataSnapshot]:
        with self.lock:
            from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

            get_snapshot()
            self.get_snapshot = get_snapshot
            return get_snapshot

    def before_fork(self) -> None:
        self.lock.acquire()

    def after_fork_in_parent(self) -> None:
        self.lock.release()

    def after_fork_in_child(self) -> None:
        self.lock = threading.RLock()


_loading = _Loading()


def is_loaded() -> bool:
    """Return whether the data is imported."""
    return _loading.get_snapshot is not None


def snapshot() -> DataSnapshot:
    """Return the data in use: what the application has fetched with ``UpdatePrices``, else genai-prices' own."""
    get_snapshot = _loading.get_snapshot or _loading.load()
    return get_snapshot()
