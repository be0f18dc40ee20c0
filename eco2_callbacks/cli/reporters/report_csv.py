"""A report as CSV."""

from __future__ import annotations

import csv
import re
from typing import TextIO

from eco2_callbacks.cli.reporters.report_rows import group_rows
from eco2_callbacks.ledger import Report

__all__ = ["write_csv"]

# What a spreadsheet runs as a formula; some read the wide signs too.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


def write_csv(report: Report, file: TextIO) -> None:
    """Write one line per group; an unknown figure is an empty cell, and dollars have no exponent.

    An apostrophe stands before a name that a spreadsheet would run as a formula.
    """
    rows = group_rows(report)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0] if rows else report.by)
    for row in rows:
        writer.writerow(
            "" if value is None else f"{value:f}" if hasattr(value, "as_tuple") else _plain(value)
            for value in row.values()
        )


def _plain(value: object) -> object:
    """Return a figure as it is, and a name so that a spreadsheet shows it; one that is a number does no harm."""
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value
