"""The protocol of a store, and the one rule by which it leases slices of a budget.

Every amount is in nanodollars. The rule keeps, at every moment::

    settled + all living leases <= limit

A lease that is not renewed in time ends: what a killed process had reserved is free again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

__all__ = [
    "AccountReading",
    "AccountRejectedError",
    "BudgetStore",
    "Lease",
    "LeaseRequest",
    "Raise",
    "StoreError",
    "leased_amount",
    "missing_amounts",
]


class StoreError(Exception):
    """A store cannot be reached, or answers what it should not."""


class AccountRejectedError(StoreError):
    """A store works, and cannot keep the data of an account: a text, a number, or what it holds of it already."""


class LeaseRequest(NamedTuple):
    """What one process asks of one account.

    Attributes:
        account: The account's key.
        rule: Name of its rule.
        scope: The rule's scope.
        limit: The rule's limit, without raises.
        bucket: The bucket to which ``spent`` belongs.
        oldest: The oldest bucket that still counts.
        spent: What the process spent since its last report.
        sequence: Number of the report; a report that arrives twice counts once.
        want: What it would like to hold.
        need: The least that it must hold to go on.
        keep: What its open calls have reserved.
        keep_until: When the account may be forgotten, in seconds since 1970.
    """

    account: str
    rule: str
    scope: str
    limit: int
    bucket: int
    oldest: int
    spent: int
    sequence: int
    want: int
    need: int
    keep: int
    keep_until: int


class Lease(NamedTuple):
    """What a store answers.

    Attributes:
        held: What the process holds now.
        settled: What all processes have spent.
        others: What the other processes hold.
        limit: The limit with raises.
        is_pressed: Whether a process lacked something a moment ago: the others should give back what they can.
        generation: Names this account until the store loses it; an account that is made anew has another one.
        buckets: What all processes have spent, by bucket.
    """

    held: int
    settled: int
    others: int
    limit: int
    is_pressed: bool
    generation: str
    buckets: Mapping[int, int]


class AccountReading(NamedTuple):
    """What a store knows of an account, for a report."""

    account: str
    scope: str
    settled: int
    leased: int


class Raise(NamedTuple):
    """A temporary raise of a rule's limit, for all its scopes; ``until`` in seconds since 1970."""

    raise_id: str
    amount: int
    until: int


class BudgetStore(Protocol):
    """Keeps budgets for several processes.

    Every method raises ``StoreError`` where the store cannot be reached, and ``AccountRejectedError`` where it works
    but cannot keep one of the accounts. A report of several accounts may then have counted for some of them.
    """

    def lease(self, owner: str, requests: Sequence[LeaseRequest], lease_seconds: float) -> list[Lease]:
        """Report what was spent and change the slices of one process, each account at one moment."""

    def claim(self, request: LeaseRequest, event: str, token: str) -> bool:
        """Return whether this process sends an event of an account: only one does.

        A claim whose answer was lost may be made again, with the same token: it still holds.

        A claim holds until ``reset`` is claimed, or a claim comes with a higher limit or from a rolling window that has
        moved on as a whole. Any other event ends the claim of ``reset``.

        Args:
            request: Names the account, with the limit in force and the current bucket.
            event: ``reset``, or any other name.
            token: Names this claim; no other one has it.
        """

    def knows(self, request: LeaseRequest) -> bool:
        """Return whether something was spent on an account, or it was restored."""

    def restore(self, request: LeaseRequest, spent: Sequence[tuple[int, int]]) -> bool:
        """Set what was spent, by bucket, on an account that the store does not know; return whether it did not."""

    def add_lost(self, request: LeaseRequest, generation: str, known: Mapping[int, int]) -> bool:
        """Add what an account has lost with the store's data; return whether anything was missing.

        Args:
            request: Names the account.
            generation: The generation in which the amounts were known. Of an account of another one, each process adds
                what those before it did not know; of the same one, which went back to an earlier copy, what is missing.
            known: What all processes had spent, by bucket.
        """

    def read(self, rule: str, oldest: int) -> list[AccountReading]:
        """Return all accounts of a rule that are not forgotten; only buckets from the oldest one on count."""

    def add_raise(self, rule: str, granted: Raise) -> None:
        """Raise a rule's limit for a time."""

    def raises(self, rule: str) -> list[Raise]:
        """Return the raises of a rule that are in force."""

    def close(self) -> None:
        """Close all connections."""

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone: the next call makes a new one."""


def leased_amount(*, lease: int, room: int, want: int, need: int, keep: int) -> int:
    """Return what a process holds after its request.

    Args:
        lease: What it holds now, after its report.
        room: What nobody holds.
        want: What it would like to hold.
        need: The least that it must hold.
        keep: What its open calls have reserved.

    Near the limit slices become small: beyond its need a process gets at most a quarter of the room, so that the others
    find some too. A process whose need cannot be met gives back what it does not use: two pieces that are too small for
    a call can be one that is not.
    """
    if keep < need > lease + max(room, 0):
        return min(lease, max(keep, 0))
    if want <= lease:
        return max(want, 0)
    if room <= 0:
        return lease
    return lease + min(want - lease, room, max(need - lease, room // 4))


def missing_amounts(
    known: Mapping[int, int], present: Mapping[int, int], *, is_same_generation: bool
) -> dict[int, int]:
    """Return what an account lacks of what a process knew, by bucket, the newest bucket first.

    Args:
        known: What the process knew.
        present: What is there, or of another generation what was restored before.
        is_same_generation: Whether the account went back to an earlier copy of itself. Otherwise all that is missing
            together is the difference of the sums: a call can lie in another bucket of a ledger.
    """
    total = sum(known.values()) - sum(present.values())
    missing = {}
    for bucket in sorted(known, reverse=True):
        amount = known[bucket] - present.get(bucket, 0)
        if not is_same_generation:
            amount = min(amount, total)
        if amount > 0:
            missing[bucket] = amount
            total -= amount
    return missing
