"""The vertical lines on all graphs: releases and new price data."""

from __future__ import annotations

from typing import Any, Final

from dashboards.promql import selector
from dashboards.styles import DATASOURCE

__all__ = ["build_annotations"]

_MARKS: Final = (
    ("Releases", "version", "blue", "Release {{version}}", "The first process with this version of eco2-callbacks."),
    (
        "Price data",
        "prices_version",
        "orange",
        "Prices {{prices_version}}",
        "New price data from here on.",
    ),
)


def build_annotations() -> list[dict[str, Any]]:
    """Return the annotations of every dashboard. A version is new if no process had it a day before."""
    return [_mark(*mark) for mark in _MARKS]


def _mark(name: str, label: str, color: str, title: str, text: str) -> dict[str, Any]:
    info = selector("eco2_callbacks_info")
    before = f"last_over_time({info}[1d] offset 2m)"
    return {
        "name": name,
        "datasource": {"type": DATASOURCE.type_val, "uid": DATASOURCE.uid},
        "enable": True,
        "iconColor": color,
        "target": {
            "refId": "Anno",
            "expr": f"count by ({label}) ({info}) unless on ({label}) count by ({label}) ({before})",
            "interval": "60s",
        },
        "titleFormat": title,
        "textFormat": text,
    }
