"""The public price data of genai-prices, imported with the first price that is looked up.

The import takes 20 ms, and ten times as long in a process that caches no bytecode. Most processes make their handler
long before their first call, and some never make a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eco2_callbacks.forks import importing

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["is_loaded", "snapshot"]


# genai-prices' own function, once the data is imported.
_get_snapshot: Callable[[], DataSnapshot] | None = None


def _load() -> Callable[[], DataSnapshot]:
    global _get_snapshot  # noqa: PLW0603  a module is imported for the process
    with importing.held:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

        get_snapshot()
        _get_snapshot = get_snapshot
        return get_snapshot


def is_loaded() -> bool:
    """Return whether the data is imported."""
    return _get_snapshot is not None


def snapshot() -> DataSnapshot:
    """Return the data in use: what the application has fetched with ``UpdatePrices``, else genai-prices' own."""
    get_snapshot = _get_snapshot or _load()
    return get_snapshot()
