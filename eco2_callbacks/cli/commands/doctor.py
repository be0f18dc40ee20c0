"""``eco2 doctor``: checks a set-up, and names the remedy of each finding."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from msgspec.structs import asdict
from rich.console import Console
from rich.text import Text

from eco2_callbacks.cli.options import AsJson, LedgerUrl
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.doctor import Finding, examine
from eco2_callbacks.errors import ConfigError

__all__ = ["doctor"]

_MARKS = {"ok": ("ok", "green"), "info": ("info", "cyan"), "warning": ("warning", "yellow"), "error": ("error", "red")}


def doctor(
    source: Annotated[Path, typer.Argument(help="The application's folder or file; it is read, never run.")] = Path(),
    no_source: Annotated[bool, typer.Option("--no-source", help="Leave the source out.")] = False,
    prometheus: Annotated[
        str, typer.Option(metavar="URL", help="Prometheus; ECO2_PROMETHEUS_URL by default.", show_default=False)
    ] = "",
    ledger: LedgerUrl = "",
    strict: Annotated[bool, typer.Option("--strict", help="Warnings fail too.")] = False,
    as_json: AsJson = False,
) -> int:
    """Check environment, packages, services and source; exit with 1 if there is an error."""
    if not no_source and not source.exists():
        raise ConfigError(f"{str(source)!r} does not exist, wanted the application's folder; correct it.")
    findings = examine(None if no_source else source, prometheus=prometheus, ledger=ledger)
    failing = {"error", "warning"} if strict else {"error"}
    status = int(any(finding.level in failing for finding in findings))
    if as_json:
        print_json({"status": status, "findings": [asdict(finding) for finding in findings]})
        return status
    console = Console(highlight=False)
    for finding in findings:
        _print(console, finding)
    counts = {level: sum(finding.level == level for finding in findings) for level in ("error", "warning", "info")}
    console.print(Text("; ".join(f"{count} {level}" for level, count in counts.items()), style="bold"))
    return status


def _print(console: Console, finding: Finding) -> None:
    mark, style = _MARKS[finding.level]
    where = f"{finding.where}: " if finding.where else ""
    line = Text.assemble((f"{mark:8}", style), (f"{finding.check}: ", "bold"), f"{where}{finding.message}")
    console.print(line, soft_wrap=True)
    if finding.remedy:
        console.print(Text(f"{'':8}{finding.remedy}", style="dim"), soft_wrap=True)
