"""Reconcile: the ledger against Prometheus, LangSmith and the providers' own books."""

from __future__ import annotations

from eco2_callbacks.finance.reconcile.books import Amounts, Book, ledger_book
from eco2_callbacks.finance.reconcile.comparison import CAUSES, Comparison, Difference, compare_books
from eco2_callbacks.finance.reconcile.sources import Sources, read_books

__all__ = [
    "CAUSES",
    "Amounts",
    "Book",
    "Comparison",
    "Difference",
    "Sources",
    "compare_books",
    "ledger_book",
    "read_books",
]
