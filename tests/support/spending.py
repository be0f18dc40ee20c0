"""What a run of a job has spent, for tests of the store and its readers."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from eco2_callbacks import Cost, TokenUsage, Totals
from graph.streams import RunSpending

__all__ = ["spending"]

STARTED_AT = datetime(2026, 11, 29, 10, tzinfo=UTC)


def spending(run: int, usd: str, *, open_calls: int = 0, **fields: Any) -> RunSpending:
    """Return a run whose one call cost so much."""
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    totals = {"llm_calls": 1, "usage": usage, "cost": Cost(input_usd=Decimal(usd)), **fields}
    return RunSpending(
        run=run, trace_id=f"t{run}", started_at=STARTED_AT, totals=Totals(**totals), open_calls=open_calls
    )
