"""What a process reports of an account to a store, and what it learns from the answer."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import count

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.stores import Lease, LeaseRequest

__all__ = ["NEVER", "apply_lease", "describe", "has_lost", "make_request"]

# No free amount is below it: the slice is not renewed.
NEVER = -(2**63)
# A slice that was not used for so long goes back.
_IDLE_SECONDS = 1.0
# An account is kept beyond its window, for late reports.
_KEEP = timedelta(days=2)
# Numbers of the reports, of all accounts of this process: the store remembers an account's last one for longer than the
# process keeps an idle account.
_numbers = count(1)


def describe(account: Account, now: datetime) -> LeaseRequest:
    """Return a request that names an account and asks for nothing."""
    period = account.period
    end = period.end or now
    if account.rule.span.kind == "rolling":
        end += timedelta(seconds=account.rule.span.seconds)
    return LeaseRequest(
        account=account.key,
        rule=account.rule.name,
        scope=account.scope,
        limit=account.rule.limit_nano,
        bucket=period.bucket,
        oldest=period.oldest,
        spent=0,
        sequence=0,
        want=0,
        need=0,
        keep=0,
        keep_until=int((end + _KEEP).timestamp()),
    )


def make_request(account: Account, amount: int, slice_amount: int, now: datetime, *, is_last: bool) -> LeaseRequest:
    """Return the report of an account; what was sent and not acknowledged is sent again as it was.

    Args:
        account: The account; what it reports is moved to ``sent``.
        amount: What a waiting call needs; 0 if none waits.
        slice_amount: The slice to hold while the account is in use.
        now: As the handler's.
        is_last: Whether everything is given back.
    """
    if not account.sent:
        account.sequence = next(_numbers)
        account.sent, account.unreported = account.unreported, 0
    used = account.reserved
    is_used = time.monotonic() - account.touched < _IDLE_SECONDS
    want = used + (max(amount, slice_amount) if amount or (is_used and not account.is_pressed) else 0)
    # No call may reserve what is given back now, or could be. The store may take back all that is not in use from a
    # process whose need it cannot meet.
    account.held = min(account.held, account.sent + (used if amount else want))
    return describe(account, now)._replace(
        spent=account.sent,
        sequence=account.sequence,
        want=0 if is_last else want,
        need=0 if is_last else used + amount,
        keep=0 if is_last else used,
    )


def has_lost(generation: str, known: Mapping[int, int], request: LeaseRequest, lease: Lease) -> bool:
    """Return whether a store lacks what it once had: within a bucket nothing is ever taken off."""
    if not generation:
        return False
    if generation != lease.generation:
        return bool(known)
    expected = {**known, request.bucket: known.get(request.bucket, 0) + request.spent}
    return any(lease.buckets.get(bucket, 0) < amount for bucket, amount in expected.items())


def apply_lease(account: Account, lease: Lease, slice_amount: int) -> None:
    """Take over what a store answered to a report."""
    account.sent = 0
    account.held = lease.held
    account.settled = lease.settled + account.unreported
    account.buckets = dict(lease.buckets)
    account.generation = lease.generation
    if lease.limit != account.limit:
        account.set_limit(lease.limit)
    account.is_pressed = lease.is_pressed
    account.is_known = True
    has_room = lease.limit > lease.settled + lease.others + lease.held
    account.refill_below = slice_amount // 4 if has_room else NEVER
