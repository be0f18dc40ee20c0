"""Finance: the ledger's calls at other prices, against other books, as FOCUS, and by variant.

Each name is imported with its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names

if TYPE_CHECKING:
    from eco2_callbacks.finance.focus import (
        COLUMNS,
        FOCUS_COLUMNS,
        Account,
        Charges,
        ClosedMonths,
        FocusColumn,
        Violation,
        focus_rows,
        read_charges,
        read_focus,
        validate_focus,
        write_focus_csv,
        write_focus_parquet,
    )
    from eco2_callbacks.finance.mcp_server import build_server
    from eco2_callbacks.finance.other_prices import OtherPrices
    from eco2_callbacks.finance.reconcile import Amounts, Comparison, Sources, compare_books, ledger_book, read_books
    from eco2_callbacks.finance.repricing import RepricedGroup, Repricing, reprice
    from eco2_callbacks.finance.variants import (
        MIN_SAMPLE,
        ComparedVariant,
        Estimate,
        VariantComparison,
        compare_variants,
    )

__all__ = [
    "COLUMNS",
    "FOCUS_COLUMNS",
    "MIN_SAMPLE",
    "Account",
    "Amounts",
    "Charges",
    "ClosedMonths",
    "ComparedVariant",
    "Comparison",
    "Estimate",
    "FocusColumn",
    "OtherPrices",
    "RepricedGroup",
    "Repricing",
    "Sources",
    "VariantComparison",
    "Violation",
    "build_server",
    "compare_books",
    "compare_variants",
    "focus_rows",
    "ledger_book",
    "read_books",
    "read_charges",
    "read_focus",
    "reprice",
    "validate_focus",
    "write_focus_csv",
    "write_focus_parquet",
]

__getattr__ = lazy_names(
    __name__,
    {
        "focus": (
            *(
                "COLUMNS",
                "FOCUS_COLUMNS",
                "Account",
                "Charges",
                "ClosedMonths",
                "FocusColumn",
                "Violation",
                "focus_rows",
                "read_charges",
            ),
            *("read_focus", "validate_focus", "write_focus_csv", "write_focus_parquet"),
        ),
        "mcp_server": ("build_server",),
        "reconcile": ("Amounts", "Comparison", "Sources", "compare_books", "ledger_book", "read_books"),
        "variants": ("MIN_SAMPLE", "ComparedVariant", "Estimate", "VariantComparison", "compare_variants"),
        "other_prices": ("OtherPrices",),
        "repricing": ("RepricedGroup", "Repricing", "reprice"),
    },
)
