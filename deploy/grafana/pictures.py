"""Draws the dashboards from Prometheus' answers to their queries, for pages without a Grafana.

``uv run --with matplotlib==3.11.2 python deploy/grafana/pictures.py http://127.0.0.1:9090``
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from drawing.canvas import FAINT, PALETTE, Box, Canvas, named
from drawing.graph import Line, graph
from drawing.numbers import bars, donut, figure, table
from panel_queries import QueryRunner, Series, View, legend, panels, variables

__all__ = ["main"]

_WIDTH, _UNIT, _GAP, _HEAD, _FOOT = 1600, 30, 8, 96, 34
_HERE = Path(__file__).parent
_SINCE = {"now/d": "Today so far", "now/M": "This month so far"}


def main() -> None:
    """Draw every dashboard to ``pictures/<uid>.png``."""
    parser = argparse.ArgumentParser(description="Draw the dashboards from Prometheus' answers to their queries.")
    parser.add_argument("prometheus", help="address of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("--minutes", type=float, default=30, help="minutes to look back")
    parser.add_argument("--end", type=float, default=time.time(), help="end of the range, in seconds since 1970")
    options = parser.parse_args()
    (_HERE / "pictures").mkdir(exist_ok=True)
    with QueryRunner(options.prometheus) as runner:
        for path in sorted(_HERE.glob("*.json")):
            dashboard = json.loads(path.read_text(encoding="utf-8"))
            view = View(start=options.end - options.minutes * 60, end=options.end)
            (_HERE / "pictures" / f"{path.stem}.png").write_bytes(_drawn(dashboard, runner, view))


def _drawn(dashboard: Mapping[str, Any], runner: QueryRunner, view: View) -> bytes:
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    canvas = Canvas(_WIDTH, _HEAD + rows * (_UNIT + _GAP) + _FOOT)
    _header(canvas, dashboard, view)
    for panel in dashboard["panels"]:
        box = _place(panel["gridPos"])
        if panel["type"] == "row":
            canvas.text(box.x + 6, box.y + box.height / 2 + 2, f"⌄  {panel['title']}", size=15)
    for panel in panels(dashboard):
        _panel(canvas, _place(panel["gridPos"]), panel, variables(dashboard), runner, view)
    canvas.text(
        _WIDTH / 2,
        canvas.height - _FOOT / 2,
        "Drawn by deploy/grafana/pictures.py from the answers of a real Prometheus to the panels' queries. "
        "Not a screenshot of Grafana.",
        color=FAINT,
        align="center",
    )
    return canvas.png()


def _place(grid: Mapping[str, int]) -> Box:
    column = (_WIDTH - _GAP) / 24
    x, y = _GAP + grid["x"] * column, _HEAD + grid["y"] * (_UNIT + _GAP)
    return Box(x, y, grid["w"] * column - _GAP, grid["h"] * (_UNIT + _GAP) - _GAP)


def _header(canvas: Canvas, dashboard: Mapping[str, Any], view: View) -> None:
    canvas.text(18, 28, dashboard["title"], size=20)
    start, end = (datetime.fromtimestamp(at) for at in (view.start, view.end))  # noqa: DTZ006 # a reader's own time
    canvas.text(_WIDTH - 18, 28, f"{start:%Y-%m-%d %H:%M} to {end:%H:%M}", size=13, align="right")
    x = 18.0
    for variable in dashboard["templating"]["list"]:
        shown = "Prometheus" if variable["type"] == "datasource" else variable["current"]["text"]
        label = canvas.width_of(variable["label"]) + 20
        value = canvas.width_of(shown) + 26
        canvas.panel(Box(x, 50, label, 28))
        canvas.text(x + 10, 64, variable["label"], color=FAINT)
        canvas.panel(Box(x + label, 50, value, 28))
        canvas.text(x + label + 10, 64, shown)
        x += label + value + 12


def _panel(
    canvas: Canvas, box: Box, panel: Mapping[str, Any], names: Sequence[str], runner: QueryRunner, view: View
) -> None:
    canvas.panel(box)
    since = panel.get("timeFrom", "")
    note = canvas.width_of(_SINCE[since], 11) + 20 if since else 0
    canvas.text(box.x + 10, box.y + 18, panel["title"], size=13, room=box.width - 20 - note)
    if since:
        canvas.text(box.x + box.width - 10, box.y + 18, _SINCE[since], size=11, color=FAINT, align="right")
        view = View(start=_began(since, view.end), end=view.end)
    inside = box.inside(12, 36, 12, 10)
    answers = [(target, runner.run(target, names, view)) for target in panel["targets"]]
    if panel["type"] == "table":
        table(canvas, inside, panel, *_rows(panel, answers))
        return
    lines = _lines(panel, answers)
    match panel["type"]:
        case "stat":
            figure(canvas, inside, panel, lines[0], view.start, view.end)
        case "bargauge":
            bars(canvas, inside, panel, lines)
        case "piechart":
            donut(canvas, inside, panel, lines)
        case "timeseries":
            graph(canvas, inside, panel, lines, view.start, view.end)


def _began(since: str, end: float) -> float:
    day = datetime.fromtimestamp(end).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006
    return (day.replace(day=1) if since == "now/M" else day).timestamp()


def _lines(panel: Mapping[str, Any], answers: Sequence[tuple[Mapping[str, Any], list[Series]]]) -> list[Line]:
    """Return the series with names and colours: the palette's in their order, but for what the panel fixes."""
    config = panel["fieldConfig"]
    fixed: dict[str, str] = {}
    hidden, grey = re.compile("$^"), ""
    for override in config.get("overrides", []):
        wanted = {prop["id"]: prop["value"] for prop in override["properties"]}
        if override["matcher"]["id"] == "byName":
            fixed[override["matcher"]["options"]] = named(wanted["color"]["fixedColor"])
        elif "custom.hideFrom" in wanted:
            hidden, grey = re.compile(override["matcher"]["options"].strip("/")), wanted["color"]["fixedColor"]
    only = named(config["defaults"]["color"].get("fixedColor", ""))
    lines, palette = [], itertools.cycle(PALETTE)
    for target, found in answers:
        for one in found:
            name = legend(target, one.labels)
            if hidden.search(name):
                lines.append(Line(name, grey, one.points, hidden=True))
            else:
                color = next(palette)
                lines.append(Line(name, fixed.get(name) or only or color, one.points))
    return lines


def _rows(
    panel: Mapping[str, Any], answers: Sequence[tuple[Mapping[str, Any], list[Series]]]
) -> tuple[list[str], list[list[Any]]]:
    """Return the titles of a table's columns and its rows, merged, named and sorted as the panel says."""
    organized = panel["transformations"][1]["options"]
    names = sorted(organized["renameByName"], key=organized["indexByName"].__getitem__)
    labels = [name for name in names if not name.startswith("Value")]
    figures: dict[tuple[str, ...], dict[str, float]] = {}
    for target, found in answers:
        column = "Value" if len(answers) == 1 else f"Value #{target['refId']}"
        for one in found:
            figures.setdefault(tuple(one.labels.get(label, "") for label in labels), {})[column] = one.last
    titles = [organized["renameByName"][name] for name in names]
    rows = [[*key, *(values.get(name) for name in names[len(labels) :])] for key, values in figures.items()]
    (sort,) = panel["options"]["sortBy"]
    at = titles.index(sort["displayName"])
    return titles, sorted(rows, key=lambda row: (row[at] is None, -(row[at] or 0)))


if __name__ == "__main__":
    main()
