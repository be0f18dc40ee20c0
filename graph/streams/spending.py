"""What a job has cost: each run's own sum, as the store keeps it, and the figures that events and answers show."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec

from eco2_callbacks import TokenUsage, Totals

__all__ = ["RunSpending", "figures_of", "tokens_of"]


class RunSpending(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a job has cost so far, written by its own worker alone.

    A job's cost is the sum over its runs. So no run's cost is lost or counted twice, in whatever order they write.

    Attributes:
        run: The number of the run.
        trace_id: The run id of its root.
        started_at: When the root started, as its record says.
        totals: The model calls that have ended.
        open_calls: Model calls that have started and not ended. They stay when the worker dies, and the provider may
            bill them.
        is_recorded: Whether the root's own record has been made.
    """

    run: int
    trace_id: str
    started_at: datetime
    totals: Totals = msgspec.field(default_factory=Totals)
    open_calls: int = 0
    is_recorded: bool = False

    @classmethod
    def parse(cls, text: str) -> RunSpending:
        """Read what :meth:`to_json` wrote."""
        return msgspec.json.decode(text, type=cls)

    def to_json(self) -> str:
        """Return everything as JSON, the dollars as exact decimals."""
        return msgspec.json.encode(self).decode()


def figures_of(runs: Iterable[RunSpending]) -> dict[str, Any]:
    """Return what a job has cost, as its last event and its answer show it.

    Returns:
        ``usd``, the exact decimal as text, and ``tokens``: of all runs, None while unknown; ``unpriced_calls``, which
        ``usd`` leaves out; ``estimated``, whether any part is; ``open_calls``, the model calls without an end.
    """
    runs = list(runs)
    totals, open_calls = Totals.sum(run.totals for run in runs), sum(run.open_calls for run in runs)
    is_unknown = totals.unpriced_calls + open_calls > 0
    usd, tokens = totals.cost.total_usd, totals.usage.total_tokens
    return {
        "usd": None if is_unknown and not usd else str(usd),
        "tokens": None if is_unknown and not tokens else tokens_of(totals.usage),
        "unpriced_calls": totals.unpriced_calls,
        "estimated": totals.estimated,
        "open_calls": open_calls,
    }


def tokens_of(usage: TokenUsage) -> dict[str, int]:
    """Return the tokens as events show them: ``input``, ``output`` and their sum ``total``."""
    return {"input": usage.input_tokens, "output": usage.output_tokens, "total": usage.total_tokens}
