"""Stream: when the chunks of a streamed answer arrived, and which of them the metrics hold already."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

__all__ = ["Stream"]


class Stream:
    """A streamed answer while it runs.

    Attributes:
        arrivals: When each chunk with content arrived, in seconds of the handler's clock.
        on_arrival: Called after each chunk where an output must not wait; None otherwise.
    """

    __slots__ = ("_counted", "arrivals", "on_arrival")

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self.on_arrival: Callable[[], None] | None = None
        self._counted = 0

    def add_chunk(self, seconds: float) -> None:
        """Add a chunk with content."""
        self.arrivals.append(seconds)
        if self.on_arrival is not None:
            self.on_arrival()

    @property
    def has_uncounted(self) -> bool:
        """Whether chunks arrived since the last ``pop_uncounted``."""
        return len(self.arrivals) > self._counted

    def pop_uncounted(self) -> tuple[int, list[float]]:
        """Return the number of new chunks, and the seconds between each of them and the chunk before.

        One thread at a time may call this.
        """
        arrivals, since = self.arrivals, self._counted
        # Set first: a finaliser can call this in between.
        self._counted = until = len(arrivals)
        return until - since, [later - earlier for earlier, later in pairwise(arrivals[max(0, since - 1) : until])]
