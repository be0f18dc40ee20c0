"""Stream: a streamed answer while it runs, and what of it the metrics do not hold yet."""

from __future__ import annotations

from itertools import pairwise

__all__ = ["Stream"]


class Stream:
    """A streamed answer while it runs.

    Attributes:
        arrivals: When each chunk with content came, in seconds of the handler's clock.
    """

    __slots__ = ("_counted", "arrivals")

    def __init__(self) -> None:
        self.arrivals: list[float] = []
        self._counted = 0

    def arrived(self, seconds: float) -> None:
        """Take in that one more chunk with content came."""
        self.arrivals.append(seconds)

    @property
    def has_uncounted(self) -> bool:
        """Whether chunks came since the last time."""
        return len(self.arrivals) > self._counted

    def uncounted(self) -> tuple[int, list[float]]:
        """Return how many chunks came since the last time, and the seconds between each of them and the one before.

        Called by one thread at a time.
        """
        arrivals, since = self.arrivals, self._counted
        # Taken before anything is done with it: a finaliser can count in between.
        self._counted = until = len(arrivals)
        return until - since, [later - earlier for earlier, later in pairwise(arrivals[max(0, since - 1) : until])]
