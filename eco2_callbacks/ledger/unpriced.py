"""Whether the dollars of a call leave something out: what is unpriced belongs to a rating, and not to the call."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

__all__ = ["PARTLY", "is_unpriced", "is_unpriced_in_sql"]

# A call's ``unpriced_reason`` where its own rating leaves out a unit.
PARTLY = "unpriced_unit"


def is_unpriced(reason: str | None, *, has_cost: bool, leaves_out: bool | None) -> bool:
    """Return whether dollars of a call are missing.

    Args:
        reason: The call's ``unpriced_reason``.
        has_cost: Whether it has a rating with a cost.
        leaves_out: That rating's ``unpriced``; None where an older version did not keep it.
    """
    if not has_cost:
        return reason is not None
    return reason == PARTLY if leaves_out is None else leaves_out


def is_unpriced_in_sql(called: Any, rated: Any) -> Any:
    """Return the same as a condition on calls that are joined to their newest ratings."""
    leaves_out = sa.type_coerce(rated.c.unpriced, sa.Boolean())
    is_partly = sa.or_(leaves_out, sa.and_(rated.c.unpriced.is_(None), called.c.unpriced_reason == PARTLY))
    return sa.or_(
        sa.and_(rated.c.contracted_cost.is_(None), called.c.unpriced_reason.is_not(None)),
        sa.and_(rated.c.contracted_cost.is_not(None), is_partly),
    )
