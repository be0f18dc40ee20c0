"""Runs: the tree of open runs, and the record of each run that ends."""

from __future__ import annotations

from eco2_callbacks.runs.attribution import UNCLASSIFIED
from eco2_callbacks.runs.enclosing import context_metadata, context_run_id
from eco2_callbacks.runs.feedback import Feedback, check_feedback
from eco2_callbacks.runs.identities import AttributionKeys, IdentityReader, read_keys
from eco2_callbacks.runs.observers import RunObserver
from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenNodeRun, OpenRun, OpenToolCall, current_task
from eco2_callbacks.runs.outcomes import SUCCESS, Outcome, outcome_of
from eco2_callbacks.runs.places import PlaceFinder
from eco2_callbacks.runs.record_queue import RecordQueue
from eco2_callbacks.runs.recorder import Recorder
from eco2_callbacks.runs.request_context import RequestContext
from eco2_callbacks.runs.streams import Stream
from eco2_callbacks.runs.text_values import UnreadableError, identifier, plain_text, text_of
from eco2_callbacks.runs.tracker import Tracker

__all__ = [
    "SUCCESS",
    "UNCLASSIFIED",
    "AttributionKeys",
    "Feedback",
    "IdentityReader",
    "OpenGraphRun",
    "OpenLLMCall",
    "OpenNodeRun",
    "OpenRun",
    "OpenToolCall",
    "Outcome",
    "PlaceFinder",
    "RecordQueue",
    "Recorder",
    "RequestContext",
    "RunObserver",
    "Stream",
    "Tracker",
    "UnreadableError",
    "check_feedback",
    "context_metadata",
    "context_run_id",
    "current_task",
    "identifier",
    "outcome_of",
    "plain_text",
    "read_keys",
    "text_of",
]
