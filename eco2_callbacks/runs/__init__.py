"""Runs: the tree of open runs, and the record of each run that ends."""

from __future__ import annotations

from eco2_callbacks.runs.attribution import UNCLASSIFIED, identifier
from eco2_callbacks.runs.feedback import Feedback
from eco2_callbacks.runs.observers import RunObserver
from eco2_callbacks.runs.open_runs import (
    OpenGraphRun,
    OpenLLMCall,
    OpenNodeRun,
    OpenRun,
    OpenToolCall,
    RequestContext,
)
from eco2_callbacks.runs.outcomes import SUCCESS, Outcome, outcome_of
from eco2_callbacks.runs.recorder import Recorder
from eco2_callbacks.runs.streams import Stream
from eco2_callbacks.runs.tracker import Tracker

__all__ = [
    "SUCCESS",
    "UNCLASSIFIED",
    "Feedback",
    "OpenGraphRun",
    "OpenLLMCall",
    "OpenNodeRun",
    "OpenRun",
    "OpenToolCall",
    "Outcome",
    "Recorder",
    "RequestContext",
    "RunObserver",
    "Stream",
    "Tracker",
    "identifier",
    "outcome_of",
]
