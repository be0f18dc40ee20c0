"""CostRow: the totals of one model in one node of one agent, as JSON holds them."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import msgspec

from eco2_callbacks.records import LLMCall
from eco2_callbacks.totals import Totals

__all__ = ["CostRow", "cost_rows", "total_row"]


class CostRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Totals by agent, node and model.

    Attributes:
        usd: Exact; leaves out what ``unpriced_calls`` calls have no price for.
    """

    agent: str = ""
    node: str = ""
    model: str = ""
    calls: int
    input_tokens: int
    cached_tokens: int = 0
    output_tokens: int
    usd: Decimal
    unpriced_calls: int = 0

    @property
    def place(self) -> tuple[str, str, str]:
        """What tells one row from another."""
        return self.agent, self.node, self.model

    @property
    def total_tokens(self) -> int:
        """Input plus output."""
        return self.input_tokens + self.output_tokens


def cost_rows(calls: Iterable[LLMCall]) -> list[CostRow]:
    """Return the totals by agent, node and model, sorted by these."""
    groups: dict[tuple[str, str, str], list[LLMCall]] = {}
    for call in calls:
        groups.setdefault((call.agent_name, call.node, call.model), []).append(call)
    return [_row(Totals.of(group), *place) for place, group in sorted(groups.items())]


def total_row(rows: Iterable[CostRow]) -> CostRow:
    """Return the sum of rows."""
    rows = list(rows)
    return CostRow(
        agent="total",
        calls=sum(row.calls for row in rows),
        input_tokens=sum(row.input_tokens for row in rows),
        cached_tokens=sum(row.cached_tokens for row in rows),
        output_tokens=sum(row.output_tokens for row in rows),
        usd=_short(sum((row.usd for row in rows), Decimal(0))),
        unpriced_calls=sum(row.unpriced_calls for row in rows),
    )


def _row(totals: Totals, agent: str, node: str, model: str) -> CostRow:
    return CostRow(
        agent=agent,
        node=node,
        model=model,
        calls=totals.llm_calls,
        input_tokens=totals.usage.input_tokens,
        cached_tokens=totals.usage.cache_read_tokens,
        output_tokens=totals.usage.output_tokens,
        usd=_short(totals.cost.total_usd),
        unpriced_calls=totals.unpriced_calls,
    )


def _short(usd: Decimal) -> Decimal:
    """Return dollars without trailing zeros, for people who read a snapshot."""
    return Decimal(f"{usd.normalize():f}")
