"""Cost: exact US dollars, split by what was billed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from functools import reduce

import msgspec

__all__ = ["COST_PARTS", "EXACT", "Cost"]

# A bill is split by these parts; each fee of a provider's tool is a part of its own. "unsplit" is a total that the
# provider states without its parts.
COST_PARTS = (
    *("input", "cache_read", "cache_write", "output", "reasoning", "image", "audio", "citation", "request"),
    *("web_search", "x_search", "file_search", "code_interpreter", "code_execution", "maps_grounding", "unsplit"),
)

# Dollars are computed in this context: the application may have set another precision.
EXACT = Context(prec=60)
_ZERO = Decimal(0)


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """US dollars, exact and unrounded.

    ``parts`` splits the total by what was billed; its keys are ``COST_PARTS`` and its values sum to the total.
    ``output_usd`` includes the fees of a provider's tools.
    """

    input_usd: Decimal = _ZERO
    output_usd: Decimal = _ZERO
    parts: Mapping[str, Decimal] = msgspec.field(default_factory=dict)

    @property
    def total_usd(self) -> Decimal:
        """Input plus output."""
        return EXACT.add(self.input_usd, self.output_usd)

    def __str__(self) -> str:
        """Return the total with its currency: ``0.00315 USD``."""
        return f"{self.total_usd.normalize(EXACT):f} USD"

    @classmethod
    def sum(cls, costs: Iterable[Cost]) -> Cost:
        """Return the costs added up, part by part."""
        costs = list(costs)
        if len(costs) == 1:
            return costs[0]
        add = EXACT.add
        parts: dict[str, Decimal] = {}
        for cost in costs:
            for part, usd in cost.parts.items():
                parts[part] = add(parts[part], usd) if part in parts else usd
        return cls(
            input_usd=reduce(add, [cost.input_usd for cost in costs], _ZERO),
            output_usd=reduce(add, [cost.output_usd for cost in costs], _ZERO),
            parts=parts,
        )
