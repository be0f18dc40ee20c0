"""Series over time, with axes, limits and legend."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from drawing.canvas import FAINT, GRID, LINK, Box, Canvas, named
from drawing.units import Unit

__all__ = ["Line", "graph", "sparkline"]

_ROW = 20.0
_SMALL = 11.0
_EVERY = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)  # seconds between ticks


class Line(NamedTuple):
    """A series with its name; what is ``hidden`` is drawn, but not named."""

    name: str
    color: str
    points: Sequence[tuple[float, float]]
    hidden: bool = False

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]

    @property
    def highest(self) -> float:
        """The highest value."""
        return max(value for _, value in self.points)


def graph(canvas: Canvas, box: Box, panel: Mapping[str, Any], lines: Sequence[Line], start: float, end: float) -> None:
    """Draw the series of a panel."""
    unit, shown = Unit.of(panel), [line for line in lines if not line.hidden]
    if panel["options"]["legend"]["placement"] == "right":
        room = _table(canvas, box, shown, unit)
        plot = box.inside(0, 4, room + 16, 22)
    else:
        height = _list(canvas, box, shown, unit)
        plot = box.inside(0, 4, 4, 26 + height)
    labels = [unit.written(value) for value in _tick_values(_top(panel, lines), unit)]
    margin = max(canvas.width_of(text, _SMALL) for text in labels) + 12
    axes = canvas.axes(plot.inside(margin, 0, 0, 0))
    _draw(axes, panel, lines)
    axes.set(xlim=(start, end), ylim=(0, _top(panel, lines)))
    _limits(axes, panel)
    axes.grid(color=GRID, lw=0.8, zorder=0)
    axes.yaxis.set_major_locator(_locator(unit))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit.written(value)))
    axes.set_xticks(_ticks(start, end))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: f"{datetime.fromtimestamp(at):%H:%M}"))  # noqa: DTZ006 # the reader's
    axes.tick_params(colors=FAINT, labelsize=_SMALL * 0.72, length=0, pad=5)


def sparkline(canvas: Canvas, box: Box, line: Line, start: float, end: float) -> None:
    """Draw how a figure got there."""
    axes = canvas.axes(box)
    times, values = zip(*line.points, strict=True)
    axes.fill_between(times, values, color=line.color, alpha=0.15, lw=0)
    axes.plot(times, values, color=line.color, lw=1)
    axes.set(xlim=(start, end), ylim=(0, line.highest * 1.05 or 1), xticks=[], yticks=[])


def _draw(axes: Axes, panel: Mapping[str, Any], lines: Sequence[Line]) -> None:
    fill = panel["fieldConfig"]["defaults"]["custom"]["fillOpacity"] / 100
    base: dict[float, float] = {}
    for order, line in enumerate(lines):
        times, values = _with_gaps(line.points)
        lower = [0.0] * len(times)
        if _stacked(panel) and not line.hidden:
            lower = [base.get(at, 0.0) for at in times]
            values = [value + below for value, below in zip(values, lower, strict=True)]
            base |= {at: value for at, value in zip(times, values, strict=True) if not math.isnan(value)}
        axes.fill_between(times, lower, values, color=line.color, alpha=fill, lw=0, zorder=2)
        axes.plot(times, values, color=line.color, lw=1.1, zorder=3 + order / 100)
        alone = _alone(line.points)
        axes.plot([at for at, _ in alone], [value for _, value in alone], "o", ms=2.5, color=line.color, zorder=5)


def _limits(axes: Axes, panel: Mapping[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"].get("thresholdsStyle", {}).get("mode") == "dashed":
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is not None:
                axes.axhline(step["value"], color=named(step["color"]), lw=0.9, ls=(0, (6, 4)), zorder=2.5)


def _stacked(panel: Mapping[str, Any]) -> bool:
    return bool(panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal")


def _top(panel: Mapping[str, Any], lines: Sequence[Line]) -> float:
    if most := panel["fieldConfig"]["defaults"].get("max"):
        return float(most)
    if not _stacked(panel):
        return max(line.highest for line in lines) * 1.08 or 1.0
    sums: dict[float, float] = {}
    for line in lines:
        for at, value in line.points:
            sums[at] = sums.get(at, 0) + value
    return max(sums.values()) * 1.08 or 1.0


def _locator(unit: Unit) -> MaxNLocator:
    return MaxNLocator(4, steps=[1, 2, 2.5, 5, 10], integer=unit.decimals == 0)


def _tick_values(top: float, unit: Unit) -> Sequence[float]:
    return [value for value in _locator(unit).tick_values(0, top) if value <= top]


def _with_gaps(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Return times and values, with a NaN wherever points are missing."""
    step = _step(points)
    times: list[float] = []
    values: list[float] = []
    for at, value in points:
        if times and at - times[-1] > 1.5 * step:
            times.append(times[-1] + step)
            values.append(math.nan)
        times.append(at)
        values.append(value)
    return times, values


def _alone(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points without a neighbour, of which no line can be drawn."""
    near = 1.5 * _step(points)
    times = [-math.inf, *(at for at, _ in points), math.inf]
    gaps = [later - earlier > near for earlier, later in pairwise(times)]
    return [point for point, (before, after) in zip(points, pairwise(gaps), strict=True) if before and after]


def _step(points: Sequence[tuple[float, float]]) -> float:
    return min((later - earlier for (earlier, _), (later, _) in pairwise(points)), default=1.0)


def _ticks(start: float, end: float) -> list[float]:
    every = next((seconds for seconds in _EVERY if seconds >= (end - start) / 6), _EVERY[-1])
    return [float(at) for at in range(math.ceil(start / every) * every, int(end), every)]


def _table(canvas: Canvas, box: Box, lines: Sequence[Line], unit: Unit) -> float:
    """Draw the legend beside the graph, and return how much room it takes."""
    ordered = sorted(lines, key=lambda line: -line.highest)
    texts = [(line.name, unit.written(line.last), unit.written(line.highest)) for line in ordered]
    names, lasts, highest = (
        max(canvas.width_of(text, _SMALL) for text in column)
        for column in zip(("Name", "Last", "Max"), *texts, strict=True)
    )
    room = min(box.width * 0.5, names + 18 + lasts + highest + 36)
    left, right = box.x + box.width - room, box.x + box.width
    y = box.y + 8
    canvas.text(left, y, "Name", size=_SMALL, color=LINK)
    canvas.text(right - highest - 18, y, "Last", size=_SMALL, color=LINK, align="right")
    canvas.text(right, y, "Max", size=_SMALL, color=LINK, align="right")
    for line, (name, last, most) in list(zip(ordered, texts, strict=True))[: int((box.height - _ROW) // _ROW)]:
        y += _ROW
        canvas.rectangle(Box(left, y - 1.5, 12, 3), line.color)
        canvas.text(left + 18, y, name, size=_SMALL, room=room - 18 - lasts - highest - 30)
        canvas.text(right - highest - 18, y, last, size=_SMALL, align="right")
        canvas.text(right, y, most, size=_SMALL, align="right")
    return room


def _list(canvas: Canvas, box: Box, lines: Sequence[Line], unit: Unit) -> float:
    """Draw the legend below the graph, in three lines at most, and return how much room it takes."""
    rows: list[list[tuple[Line, str, float]]] = [[]]
    taken = 0.0
    for line in lines:
        text = f"{line.name}  Last: {unit.written(line.last)}"
        width = canvas.width_of(text, _SMALL) + 18 + 14
        if rows[-1] and taken + width > box.width:
            rows.append([])
            taken = 0.0
        rows[-1].append((line, text, taken))
        taken += width
    shown = rows[:3]
    for number, row in enumerate(shown):
        y = box.y + box.height - (len(shown) - number) * _ROW + 10
        for line, text, offset in row:
            canvas.rectangle(Box(box.x + offset, y - 1.5, 12, 3), line.color)
            canvas.text(box.x + offset + 18, y, text, size=_SMALL, room=box.width - offset - 18)
    return len(shown) * _ROW
