"""``eco2 trace``: the tree of a request on a time axis."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json, print_trace, trace_document, trace_page
from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger import read_traces

__all__ = ["trace"]


def trace(
    job_or_trace: Annotated[str, typer.Argument(metavar="JOB_OR_TRACE", help="A job_id, or the id of a trace.")],
    ledger: LedgerUrl = "",
    as_html: Annotated[bool, typer.Option("--html", help="Write a page instead.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page.")] = Path("eco2-trace.html"),
    as_json: AsJson = False,
) -> None:
    """The runs of a request as a tree on a time axis, with their cost."""
    backend = open_ledger(ledger)
    try:
        traces = read_traces(backend, job_or_trace)
    finally:
        backend.close()
    if as_json:
        print_json([trace_document(each) for each in traces])
    elif as_html:
        try:
            output.write_text(trace_page(traces), encoding="utf-8")
        except OSError as error:
            raise LedgerError(f"{str(output)!r} cannot be written: {error.strerror}; pass another --output.") from error
        sys.stderr.write(f"Written to {output}.\n")
    else:
        console = Console(highlight=False)
        for each in traces:
            print_trace(each, console)
