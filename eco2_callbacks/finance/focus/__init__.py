"""FOCUS: the ledger as a file of the FinOps Open Cost and Usage Specification 1.2, and its validator."""

from __future__ import annotations

from eco2_callbacks.finance.focus.charges import Charges, read_charges
from eco2_callbacks.finance.focus.columns import COLUMNS, FocusColumn
from eco2_callbacks.finance.focus.files import read_focus, write_focus_csv, write_focus_parquet
from eco2_callbacks.finance.focus.late import ClosedMonths
from eco2_callbacks.finance.focus.rows import FOCUS_COLUMNS, Account, focus_rows
from eco2_callbacks.finance.focus.validator import Violation, validate_focus

__all__ = [
    "COLUMNS",
    "FOCUS_COLUMNS",
    "Account",
    "Charges",
    "ClosedMonths",
    "FocusColumn",
    "Violation",
    "focus_rows",
    "read_charges",
    "read_focus",
    "validate_focus",
    "write_focus_csv",
    "write_focus_parquet",
]
