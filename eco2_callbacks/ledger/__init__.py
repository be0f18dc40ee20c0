"""The ledger: every record as a durable row, and the reports on them.

Each name is imported with its first use: an application without a ledger loads no backend and no SQLAlchemy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names

if TYPE_CHECKING:
    from eco2_callbacks.ledger.backends import Backend, backend_of
    from eco2_callbacks.ledger.business import BusinessFigures, BusinessReport, IntentFigures, read_business
    from eco2_callbacks.ledger.cells import cleaned
    from eco2_callbacks.ledger.figures import Figures, percentile
    from eco2_callbacks.ledger.maintenance import Status, forget_user, models_of, prune, read_status
    from eco2_callbacks.ledger.migrations import Schema
    from eco2_callbacks.ledger.observer import LedgerObserver
    from eco2_callbacks.ledger.periods import Period, parse_duration
    from eco2_callbacks.ledger.ratings import Rating, append_ratings
    from eco2_callbacks.ledger.read_only import make_read_only
    from eco2_callbacks.ledger.report import DIMENSIONS, Group, Mover, Report, make_report
    from eco2_callbacks.ledger.rollups import Progress, Rollups
    from eco2_callbacks.ledger.sink import LedgerSink
    from eco2_callbacks.ledger.spent import Spent, SpentQuery, read_spent, spent_of
    from eco2_callbacks.ledger.stored_calls import StoredCall, StoredRating, read_calls, rerated_days
    from eco2_callbacks.ledger.trace import Span, Trace, read_traces
    from eco2_callbacks.ledger.variants import VARIANT_KEYS, Moments, Variant, read_variants
    from eco2_callbacks.ledger.watchers import LedgerWatcher

__all__ = [
    "DIMENSIONS",
    "VARIANT_KEYS",
    "Backend",
    "BusinessFigures",
    "BusinessReport",
    "Figures",
    "Group",
    "IntentFigures",
    "LedgerObserver",
    "LedgerSink",
    "LedgerWatcher",
    "Moments",
    "Mover",
    "Period",
    "Progress",
    "Rating",
    "Report",
    "Rollups",
    "Schema",
    "Span",
    "Spent",
    "SpentQuery",
    "Status",
    "StoredCall",
    "StoredRating",
    "Trace",
    "Variant",
    "append_ratings",
    "backend_of",
    "cleaned",
    "forget_user",
    "make_read_only",
    "make_report",
    "models_of",
    "parse_duration",
    "percentile",
    "prune",
    "read_business",
    "read_calls",
    "read_spent",
    "read_status",
    "read_traces",
    "read_variants",
    "rerated_days",
    "spent_of",
]

__getattr__ = lazy_names(
    __name__,
    {
        "backends": ("Backend", "backend_of"),
        "business": ("BusinessFigures", "BusinessReport", "IntentFigures", "read_business"),
        "cells": ("cleaned",),
        "figures": ("Figures", "percentile"),
        "maintenance": ("Status", "forget_user", "models_of", "prune", "read_status"),
        "migrations": ("Schema",),
        "observer": ("LedgerObserver",),
        "periods": ("Period", "parse_duration"),
        "ratings": ("Rating", "append_ratings"),
        "read_only": ("make_read_only",),
        "report": ("DIMENSIONS", "Group", "Mover", "Report", "make_report"),
        "rollups": ("Progress", "Rollups"),
        "sink": ("LedgerSink",),
        "spent": ("Spent", "SpentQuery", "read_spent", "spent_of"),
        "stored_calls": ("StoredCall", "StoredRating", "read_calls", "rerated_days"),
        "trace": ("Span", "Trace", "read_traces"),
        "variants": ("VARIANT_KEYS", "Moments", "Variant", "read_variants"),
        "watchers": ("LedgerWatcher",),
    },
)
