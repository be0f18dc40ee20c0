"""Numbers of one moment: large figures, bars, the parts of a whole, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from drawing.canvas import FAINT, LINK, TEXT, Box, Canvas, color_at
from drawing.graph import Line, sparkline
from drawing.units import Unit

__all__ = ["bars", "donut", "figure", "table"]

_ROW = 30.0
_FIGURE = 72.0  # a column of figures takes no less
_TRACK = "#22252b"


def figure(canvas: Canvas, box: Box, panel: Mapping[str, Any], line: Line, start: float, end: float) -> None:
    """Draw a large number, and how it got there."""
    color = color_at(line.last, panel["fieldConfig"]["defaults"]["thresholds"]["steps"])
    middle = box.y + box.height / 2 - 4
    if panel["options"]["graphMode"] == "area":
        sparkline(canvas, box.inside(0, box.height * 0.62, 0, 0), line._replace(color=color), start, end)
        middle = box.y + box.height * 0.3
    text, size = Unit.of(panel).written(line.last), 42.0
    while canvas.width_of(text, size) > box.width - 16:
        size -= 2
    canvas.text(box.x + box.width / 2, middle, text, size=size, color=color, align="center")


def bars(canvas: Canvas, box: Box, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Draw a bar for each series."""
    defaults, unit = panel["fieldConfig"]["defaults"], Unit.of(panel)
    by_limits = defaults["color"]["mode"] == "thresholds"
    top = defaults.get("max") or max(line.last for line in lines) or 1
    texts = [unit.written(line.last) for line in lines]
    names = min(max(canvas.width_of(line.name) for line in lines) + 14, box.width * 0.6)
    numbers = max(canvas.width_of(text, 13) for text in texts) + 14
    row, track = min(_ROW, box.height / len(lines)), box.width - names - numbers
    for number, (line, text) in enumerate(zip(lines, texts, strict=True)):
        y = box.y + number * row
        color = color_at(line.last, defaults["thresholds"]["steps"]) if by_limits else line.color
        canvas.text(box.x, y + row / 2, line.name, room=names - 10)
        bar = Box(box.x + names, y + row * 0.16, track, row * 0.68)
        canvas.rectangle(bar, _TRACK)
        canvas.rectangle(bar._replace(width=track * min(1.0, line.last / top)), color)
        canvas.text(box.x + box.width, y + row / 2, text, size=13, color=color, align="right")


def donut(canvas: Canvas, box: Box, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Draw the parts of a whole."""
    unit, side = Unit.of(panel), min(box.height, box.width * 0.42)
    whole = sum(line.last for line in lines)
    if whole:
        axes = canvas.axes(Box(box.x, box.y + (box.height - side) / 2, side, side))
        parts, colors = [line.last for line in lines], [line.color for line in lines]
        axes.pie(parts, colors=colors, startangle=90, counterclock=False, wedgeprops={"width": 0.32})
    left, right, y = box.x + side + 20, box.x + box.width, box.y + 10
    canvas.text(right - 58, y, "Value", size=11, color=LINK, align="right")
    canvas.text(right, y, "Percent", size=11, color=LINK, align="right")
    for line in lines:
        y += 20
        canvas.rectangle(Box(left, y - 1.5, 12, 3), line.color)
        canvas.text(left + 18, y, line.name, size=11, room=right - left - 18 - 110)
        canvas.text(right - 58, y, unit.written(line.last), size=11, align="right")
        canvas.text(right, y, f"{line.last / whole * 100 if whole else 0:.0f}%", size=11, align="right")


def table(
    canvas: Canvas, box: Box, panel: Mapping[str, Any], columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    """Draw a table; texts stand on the left of their columns, figures on the right."""
    options: dict[str, dict[str, Any]] = {}
    for override in panel["fieldConfig"]["overrides"]:
        wanted = {prop["id"]: prop["value"] for prop in override["properties"]}
        options.setdefault(override["matcher"]["options"], {}).update(wanted)
    texts = sum(isinstance(cell, str) for cell in rows[0])
    weights = [max(canvas.width_of(str(row[index])) for row in rows) + 24 for index in range(texts)]
    weights += [_FIGURE] * (len(columns) - texts)
    spare = max(0.0, box.width - sum(weights)) / len(columns)
    weights = [weight + spare for weight in weights]
    edges = [box.x + box.width * part / sum(weights) for part in (0.0, *accumulate(weights))]
    for index, title in enumerate(columns):
        if index < texts:
            canvas.text(edges[index] + 6, box.y + 10, title, color=LINK)
        else:
            canvas.text(edges[index + 1] - 6, box.y + 10, title, color=LINK, align="right")
    for number, row in enumerate(rows[: int((box.height + 6) // _ROW) - 1], start=1):
        y = box.y + number * _ROW + 12
        canvas.line(box.x, y - 17, box.width)
        for index, (cell, left, right) in enumerate(zip(row, edges, edges[1:], strict=False)):
            wanted = options.get(columns[index], {})
            if isinstance(cell, str):
                color = LINK if "links" in wanted else TEXT
                canvas.text(left + 6, y, cell, color=color, room=right - left - 12)
            elif cell is None:
                canvas.text(right - 6, y, "-", color=FAINT, align="right")
            else:
                limits = wanted.get("thresholds", {}).get("steps")
                text = Unit(wanted["unit"], wanted.get("decimals")).written(cell)
                canvas.text(right - 6, y, text, color=color_at(cell, limits) if limits else TEXT, align="right")
