"""RequestTable: values of requests, bounded in number; what belongs to an open request stays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["RequestTable"]

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")
# Looked at with each new value, so that a table full of open requests costs no more than that.
_MAX_LOOKED_AT = 8


class RequestTable(Generic[_K, _V]):
    """Holds a value for each request. Beyond the bound it forgets the longest unused one that is not in use.

    Its owner holds a lock around every call.

    Args:
        max_size: Number of values; more while more are in use.
        is_in_use: Returns whether a value must stay.
    """

    def __init__(self, max_size: int, is_in_use: Callable[[_V], bool]) -> None:
        self._max_size = max_size
        self._is_in_use = is_in_use
        self._values: OrderedDict[_K, _V] = OrderedDict()

    def __contains__(self, key: _K) -> bool:
        return key in self._values

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: _K) -> _V | None:
        """Return a value, which counts as its use; None where there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def add(self, key: _K, value: _V) -> None:
        """Add a value, or replace it."""
        self._values[key] = value
        self._values.move_to_end(key)
        for _ in range(min(_MAX_LOOKED_AT, len(self._values) - 1)):  # not at the new one
            if len(self._values) <= self._max_size:
                return
            oldest = next(iter(self._values))
            if self._is_in_use(self._values[oldest]):
                self._values.move_to_end(oldest)
            else:
                del self._values[oldest]
