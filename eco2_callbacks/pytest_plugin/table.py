"""Tables of costs as plain text, for pytest's output."""

from __future__ import annotations

from collections.abc import Sequence

from eco2_callbacks.pytest_plugin.figures import CostRow, total_row

__all__ = ["cost_diff", "cost_table"]

_HEADER = ("agent", "node", "model", "calls", "input", "cached", "output", "USD")
_TEXT_COLUMNS = 3


def cost_table(rows: Sequence[CostRow]) -> str:
    """Return rows and their total as a table."""
    return "\n".join(_aligned([("", row) for row in (*rows, total_row(rows))]))


def cost_diff(before: Sequence[CostRow], after: Sequence[CostRow]) -> str:
    """Return what changed: ``-`` marks rows of the snapshot, ``+`` those of the test."""
    old, new = {row.place: row for row in before}, {row.place: row for row in after}
    lines: list[tuple[str, CostRow]] = []
    for place in sorted(old.keys() | new.keys()):
        if old.get(place) == new.get(place):
            lines.append(("  ", new[place]))
            continue
        lines += [(mark, rows[place]) for mark, rows in (("- ", old), ("+ ", new)) if place in rows]
    lines += [("- ", total_row(before)), ("+ ", total_row(after))]
    return "\n".join(_aligned(lines))


def _aligned(lines: Sequence[tuple[str, CostRow]]) -> list[str]:
    margin = max((len(mark) for mark, _ in lines), default=0)
    cells = [(" " * margin, _HEADER), *((mark, _cells(row)) for mark, row in lines)]
    widths = [max(len(row[column]) for _, row in cells) for column in range(len(_HEADER))]
    return [
        (
            mark
            + "  ".join(
                cell.ljust(width) if column < _TEXT_COLUMNS else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
        ).rstrip()
        for mark, row in cells
    ]


def _cells(row: CostRow) -> tuple[str, ...]:
    return (
        row.agent or "-",
        row.node or "-",
        row.model or "-",
        f"{row.calls:,}",
        f"{row.input_tokens:,}",
        f"{row.cached_tokens:,}",
        f"{row.output_tokens:,}",
        f"{'?' if row.unpriced_calls else ''}{row.usd:f}",
    )
