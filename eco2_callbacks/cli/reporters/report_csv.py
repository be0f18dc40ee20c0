"""A report as CSV."""

from __future__ import annotations

import csv
from typing import TextIO

from eco2_callbacks.cli.reporters.report_rows import group_rows
from eco2_callbacks.ledger import Report

__all__ = ["write_csv"]


def write_csv(report: Report, file: TextIO) -> None:
    """Write one line per group; an unknown figure is an empty cell, and dollars have no exponent."""
    rows = group_rows(report)
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(rows[0] if rows else report.by)
    for row in rows:
        writer.writerow(
            "" if value is None else f"{value:f}" if hasattr(value, "as_tuple") else value for value in row.values()
        )
