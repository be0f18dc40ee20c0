"""How results are shown: on the terminal, as JSON, CSV, Parquet or HTML."""

from __future__ import annotations

from eco2_callbacks.cli.reporters.budget_table import budget_document, print_budgets
from eco2_callbacks.cli.reporters.business import business_document, print_business, write_business_csv
from eco2_callbacks.cli.reporters.json_text import print_json
from eco2_callbacks.cli.reporters.marks import estimate_remark, marked_usd, usd
from eco2_callbacks.cli.reporters.report_csv import write_csv
from eco2_callbacks.cli.reporters.report_html import report_page
from eco2_callbacks.cli.reporters.report_parquet import write_parquet
from eco2_callbacks.cli.reporters.report_rows import document as report_document
from eco2_callbacks.cli.reporters.report_rows import plain
from eco2_callbacks.cli.reporters.report_table import print_report
from eco2_callbacks.cli.reporters.trace_html import trace_page
from eco2_callbacks.cli.reporters.trace_rows import document as trace_document
from eco2_callbacks.cli.reporters.trace_tree import print_trace

__all__ = [
    "budget_document",
    "business_document",
    "estimate_remark",
    "marked_usd",
    "plain",
    "print_budgets",
    "print_business",
    "print_json",
    "print_report",
    "print_trace",
    "report_document",
    "report_page",
    "trace_document",
    "trace_page",
    "usd",
    "write_business_csv",
    "write_csv",
    "write_parquet",
]
