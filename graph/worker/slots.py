"""The slots of a worker: many jobs side by side, or one suspect alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["JobSlots"]


class JobSlots:
    """Lets a number of jobs run at once, or one alone.

    A job that was running when its worker died may be the reason. It runs alone, so that it takes no other job with
    it. While one waits for that, no further job starts.

    Args:
        capacity: How many jobs run at once.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._changed = asyncio.Condition()
        self._alone = False
        self._waiting_alone = 0
        self.busy = 0
        self.waiting = 0

    @asynccontextmanager
    async def take(self, *, alone: bool = False) -> AsyncIterator[None]:
        """Hold a slot during the block; alone, all of them."""
        async with self._changed:
            self.waiting += 1
            self._waiting_alone += alone
            try:
                await self._changed.wait_for(lambda: self._is_free(alone=alone))
            finally:
                self.waiting -= 1
                self._waiting_alone -= alone
                self._changed.notify_all()
            self.busy += 1
            self._alone = alone
        try:
            yield
        finally:
            self.busy -= 1
            self._alone = False
            async with self._changed:
                self._changed.notify_all()

    def _is_free(self, *, alone: bool) -> bool:
        if alone:
            return self.busy == 0
        return self.busy < self._capacity and not self._alone and not self._waiting_alone
