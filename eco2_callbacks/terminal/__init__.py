"""Terminal: requests drawn as trees, with rich."""

from __future__ import annotations

from eco2_callbacks.terminal.axis import Axis, AxisBar, AxisNote
from eco2_callbacks.terminal.figures import UNCLASSIFIED, Figures, Row, Trace, group_by_step, saved_seconds
from eco2_callbacks.terminal.sink import TerminalSink
from eco2_callbacks.terminal.timeline import Timeline
from eco2_callbacks.terminal.tree import RequestTree, legend, usd

__all__ = [
    "UNCLASSIFIED",
    "Axis",
    "AxisBar",
    "AxisNote",
    "Figures",
    "RequestTree",
    "Row",
    "TerminalSink",
    "Timeline",
    "Trace",
    "group_by_step",
    "legend",
    "saved_seconds",
    "usd",
]
