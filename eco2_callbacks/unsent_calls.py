"""Has every handler of the process forget a call that is not sent.

A call can have several handlers, each with budgets of its own. The refusal of one stops the call for all of them, and
LangChain tells the others nothing: without this they would keep its reservation, and bill its prompt by estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias
from uuid import UUID
from weakref import WeakMethod

__all__ = ["forget", "register"]

# Takes the run ids of the calls, and why they are not sent.
Forget: TypeAlias = Callable[[Sequence[UUID], str], None]
_registered: dict[WeakMethod[Forget], None] = {}


def register(forget: Forget) -> None:
    """Have a bound method called with calls that are not sent, while its object lives."""
    _registered[WeakMethod(forget, _remove)] = None


def forget(run_ids: Sequence[UUID], reason: str) -> None:
    """Have all handlers forget these calls; those that do not know them do nothing.

    Args:
        run_ids: Of the calls.
        reason: Why they are not sent.
    """
    for reference in list(_registered):
        if (method := reference()) is not None:
            method(run_ids, reason)


def _remove(reference: WeakMethod[Forget]) -> None:
    _registered.pop(reference, None)
