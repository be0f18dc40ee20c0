"""What a run of a job has spent, and a store that one worker loses, for tests of what a job has cost."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eco2_callbacks import Cost, TokenUsage, Totals
from graph.streams import Appended, MemoryJobStore, RunSpending

__all__ = ["StoreOfOneWorker", "spending"]

STARTED_AT = datetime(2026, 11, 29, 10, tzinfo=UTC)


def spending(run: int, usd: str, *, open_calls: int = 0, **fields: Any) -> RunSpending:
    """Return a run whose one call cost so much."""
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    totals = {"llm_calls": 1, "usage": usage, "cost": Cost(input_usd=Decimal(usd)), **fields}
    return RunSpending(
        run=run, trace_id=f"t{run}", started_at=STARTED_AT, totals=Totals(**totals), open_calls=open_calls
    )


class StoreOfOneWorker:
    """The shared store as a worker sees it whose writes stop: of everything, or of outcomes alone."""

    def __init__(self, store: MemoryJobStore, *, loses_outcomes: bool = False) -> None:
        self._store, self._loses_outcomes = store, loses_outcomes
        self.outcome_lost = asyncio.Event()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def append(self, *arguments: Any, **options: Any) -> Appended:
        if self._loses_outcomes and options.get("status", "running") != "running":
            self.outcome_lost.set()
            await asyncio.Event().wait()
        await self.goes_on.wait()
        return await self._store.append(*arguments, **options)
