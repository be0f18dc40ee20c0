"""The LangSmith side: usage, cost and tags onto the runs that LangChain's tracer sends, before it sends their end."""

from __future__ import annotations

import logging
import sys
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from langsmith import Client
from langsmith.run_trees import RunTree

from eco2_callbacks.attribution import UNCLASSIFIED
from eco2_callbacks.background import Background
from eco2_callbacks.features import Features, read_features
from eco2_callbacks.outage import OutageFilter
from eco2_callbacks.records import Cost, GraphRun, LLMCall, NodeRun, Record
from eco2_callbacks.runs import OpenNode, OpenRun
from eco2_callbacks.traced import Note, Teller, TracedRun, tracers_of
from eco2_callbacks.usage import TokenUsage

__all__ = ["LangSmithRuns", "usage_metadata"]

_logger = logging.getLogger(__name__)
_CLIENT_LOGGER = logging.getLogger("langsmith.client")
# LangSmith calls them so where LangChain has a name for them; the rest keeps ours.
_DETAILS = {"cache_write": "cache_creation"}
_INPUT_PARTS = ("cache_read", "cache_write")
_OUTPUT_PARTS = ("reasoning", "image", "web_search", "file_search", "code_interpreter", "maps_grounding")
_QUIET_SECONDS = 60.0
_CLOSE_SECONDS = 5.0


def usage_metadata(usage: TokenUsage, cost: Cost | None) -> dict[str, Any]:
    """Return LangSmith's usage of a run, with its dollars where they are known.

    Details hold what is not 0 and need not sum up: the rest is plain text. A provider's tool fees lie inside
    ``output_cost``.

    Source: ``UsageMetadata`` in https://github.com/langchain-ai/langsmith-sdk/blob/main/python/langsmith/schemas.py
    """
    told: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_token_details": _some(
            cache_read=usage.cache_read_tokens,
            cache_creation=usage.cache_creation_tokens,
            ephemeral_5m_input_tokens=usage.cache_creation_5m_tokens,
            ephemeral_1h_input_tokens=usage.cache_creation_1h_tokens,
            audio=usage.input_audio_tokens,
        ),
        "output_token_details": _some(
            reasoning=usage.reasoning_tokens, audio=usage.output_audio_tokens, image=usage.output_image_tokens
        ),
    }
    if cost is not None:
        parts = cost.parts
        # Of both sides' audio the bill has one part.
        text_usd = sum((parts.get(part, Decimal(0)) for part in ("input", *_INPUT_PARTS)), Decimal(0))
        input_audio_usd = cost.input_usd - text_usd if "audio" in parts else Decimal(0)
        output_audio_usd = parts.get("audio", Decimal(0)) - input_audio_usd
        told["input_cost"] = float(cost.input_usd)
        told["output_cost"] = float(cost.output_usd)
        told["total_cost"] = float(cost.total_usd)
        told["input_cost_details"] = _dollars(parts, _INPUT_PARTS, input_audio_usd)
        told["output_cost_details"] = _dollars(parts, _OUTPUT_PARTS, output_audio_usd)
    return {key: value for key, value in told.items() if value != {}}


class LangSmithRuns:
    """Writes records on the LangSmith runs they belong to, and sends quality scores as feedback.

    Args:
        subagents: Nodes whose runs are tagged ``subagent:<node>``.
        features: What serves an intent: its nodes' runs are tagged ``feature:<feature>``.
        on_lost: Called for each quality score that did not reach LangSmith.
    """

    def __init__(
        self,
        *,
        subagents: Sequence[str] = (),
        features: Features | None = None,
        on_lost: Callable[[], None],
    ) -> None:
        self._subagents = frozenset(subagents)
        self._features = read_features(features or {})
        self._on_lost = on_lost
        self._outages = OutageFilter()
        weakref.finalize(self, _CLIENT_LOGGER.removeFilter, self._outages)
        self._quiet_until = 0.0
        self._projects: WeakKeyDictionary[Client, dict[str | None, tuple[Any, float]]] = WeakKeyDictionary()
        self._background = Background(
            "eco2-langsmith-feedback",
            on_failure=lambda: self._lost(repr(sys.exception())),
            on_dropped=lambda: self._lost("too many wait, or the handler was closed"),
        )

    def follow(self, run: OpenRun, teller: Teller | None) -> None:
        """Take note of whether LangSmith is told of a run that just started, by its teller or, without one, at all."""
        tracers = tracers_of(teller)
        if tracers:
            _CLIENT_LOGGER.addFilter(self._outages)
            run.traced = TracedRun(run.run_id, tracers)

    def write(self, run: OpenRun, record: Record | None) -> None:
        """Write a run that ended on its LangSmith run; a link between runs has no record of its own."""
        if run.traced is None:
            return
        note = Note({})
        try:
            note = self._note(run, record)
        finally:
            sent = run.traced.write(note)
        if isinstance(record, NodeRun) and record.feedback:
            for traced in sent:
                self._score(traced, record.feedback)

    def end_untold(self, run: OpenRun, why: str) -> None:
        """Send the end of a run that was written on, of which LangChain tells nobody."""
        if run.traced is not None:
            run.traced.end(why)

    def close(self) -> None:
        """Send the feedback that waits, as far as it goes within five seconds."""
        self._background.close(_CLOSE_SECONDS)
        _CLIENT_LOGGER.removeFilter(self._outages)

    def _note(self, run: OpenRun, record: Record | None) -> Note:
        intent, tenant_id = _whose(run) if record is None else (record.intent, record.tenant_id)
        metadata: dict[str, Any] = {}
        if intent and intent != UNCLASSIFIED:
            metadata["intent"] = intent
        if tenant_id:
            metadata["tenant_id"] = tenant_id
        tags = self._tags_of_nodes(run if isinstance(run, OpenNode) else run.node, intent)
        if not isinstance(record, LLMCall | NodeRun | GraphRun):
            return Note(metadata, tags)
        metadata |= _spent(record)
        # Never on a node or request: LangSmith adds up by itself what stands on the models' runs.
        told = record.usage if isinstance(record, LLMCall) else None
        return Note(metadata, tags, None if told is None else usage_metadata(told, record.cost))

    def _tags_of_nodes(self, node: OpenNode | None, intent: str) -> list[str]:
        """Return the tags of a node and of those it runs inside: what is below a node carries them too."""
        tags, parallel = [], False
        serving = self._features.get(intent)
        while node is not None:
            name = node.name
            working = serving.subagents if serving is not None else ()
            if name in self._subagents or name in working:
                tags.append(f"subagent:{name}")
            if serving is not None and name in (working or self._subagents or (name,)):
                tags.append(f"feature:{serving.feature}")
            if (always := self._features.get(name)) is not None:
                tags.append(f"feature:{always.feature}")
            parallel |= len(node.tasks) > 1 or (serving is not None and serving.parallel and name in working)
            node = node.node
        return [*tags, "execution:parallel"] if parallel else tags

    def _score(self, run: RunTree, scores: Mapping[str, float]) -> None:
        client = run.client
        if getattr(client, "tracing_mode", "langsmith") == "otel" or run.replicas:
            return  # there is no run at LangSmith, or only copies of it, each with an id of its own
        for key, score in scores.items():
            # Not with the run itself, which holds all that was said.
            about = {"run_id": run.id, "trace_id": run.trace_id, "start_time": run.start_time}
            send = partial(self._send_feedback, client, run.session_name, key=key, score=score, **about)
            self._background.submit(send)

    def _send_feedback(self, client: Client, project: str | None, **feedback: Any) -> None:
        if time.monotonic() < self._quiet_until:
            self._on_lost()
            return
        project_id = self._project_id(client, project)
        if project_id is None:
            # LangSmith would not tell; nobody can act on being told so at every score.
            warnings.filterwarnings("ignore", "Creating feedback for a run without session_id")
        client.create_feedback(**feedback, session_id=project_id, stop_after_attempt=2)

    def _project_id(self, client: Client, project: str | None) -> Any:
        """Return the id of a project, which LangSmith wants beside a run's feedback, None if it won't say."""
        projects = self._projects.setdefault(client, {})
        known, asked = projects.get(project, (None, -_QUIET_SECONDS))
        if known is None and time.monotonic() - asked >= _QUIET_SECONDS:
            # A project is made with its first run, which may not have arrived yet.
            with suppress(Exception):
                known = client.read_project(project_name=project).id
            projects[project] = known, time.monotonic()
        return known

    def _lost(self, why: str) -> None:
        self._on_lost()
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _logger.warning(
                "Feedback did not reach LangSmith (%s); for %.0f seconds none is tried, and each lost score is counted "
                'in eco2_callbacks_errors_total{callback="feedback"}.',
                why,
                _QUIET_SECONDS,
            )


def _whose(run: OpenRun) -> tuple[str, str]:
    request = run.request
    if request is None:
        return "", ""
    return request.state.get("intent", request.intent), request.state.get("tenant_id", request.tenant_id)


def _spent(record: LLMCall | NodeRun | GraphRun) -> dict[str, Any]:
    """Return the plain metadata on what a run cost, with what makes the figure uncertain."""
    spent: dict[str, Any] = {}
    unpriced_calls = 0 if isinstance(record, LLMCall) else record.unpriced_calls
    if record.cost is not None and (record.cost.total_usd or not unpriced_calls):
        spent["cost_usd"] = float(record.cost.total_usd)
    if record.usage is not None:
        spent["tokens"] = record.usage.total_tokens
    if record.estimated:
        spent["cost_estimated"] = True
    if unpriced_calls:
        spent["unpriced_calls"] = unpriced_calls
    if isinstance(record, LLMCall):
        if record.estimate_reason is not None:
            spent["estimate_reason"] = record.estimate_reason
        if record.unpriced_reason is not None:
            spent["unpriced_reason"] = record.unpriced_reason
    return spent


def _some(**counts: int) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count}


def _dollars(parts: Mapping[str, Decimal], names: Sequence[str], audio_usd: Decimal) -> dict[str, float]:
    details = {_DETAILS.get(name, name): float(parts[name]) for name in names if parts.get(name)}
    return {**details, "audio": float(audio_usd)} if audio_usd else details
