"""Stores: where processes share budgets."""

from __future__ import annotations

from eco2_callbacks.budgets.stores.open import open_store
from eco2_callbacks.budgets.stores.protocol import (
    AccountReading,
    AccountRejectedError,
    BudgetStore,
    Lease,
    LeaseRequest,
    Raise,
    StoreError,
)

__all__ = [
    "AccountReading",
    "AccountRejectedError",
    "BudgetStore",
    "Lease",
    "LeaseRequest",
    "Raise",
    "StoreError",
    "open_store",
]
