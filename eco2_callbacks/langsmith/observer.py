"""LangSmithObserver: writes usage, cost and tags on the LangSmith runs that LangChain's tracer sends."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from uuid import UUID
from weakref import WeakMethod

from langsmith.run_trees import RunTree

from eco2_callbacks import forks
from eco2_callbacks.langsmith.features import Features, read_features
from eco2_callbacks.langsmith.feedback_sender import FeedbackSender
from eco2_callbacks.langsmith.run_tree_hooks import (
    Send,
    Written,
    add_listener,
    remove_listener,
    send_end,
    started_run,
)
from eco2_callbacks.langsmith.run_updates import RunUpdate
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from eco2_callbacks.log_once import is_first
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record
from eco2_callbacks.runs import UNCLASSIFIED, OpenNodeRun, OpenRun, RunObserver

__all__ = ["LangSmithObserver"]

_logger = logging.getLogger(__name__)
_CLOSE_SECONDS = 5.0
# Updates that wait for the end of their run; beyond this number the oldest is dropped.
_MAX_UPDATES = 10_000
# A tracer takes the update of a run whose end both see before either sees another event of that run's thread or task.
_MAX_UNSURE = 500
# Updates that were written, for a second tracer on the same run: it sends its end right after the first one.
_MAX_WRITTEN = 500
_NO_SCORES: Mapping[str, float] = {}


class _Pending(NamedTuple):
    """What to write on a run when its end is sent."""

    update: RunUpdate
    scores: Mapping[str, float]
    trace_id: UUID


class LangSmithObserver(RunObserver, forks.ForkAware):
    """Writes records on the LangSmith runs they belong to, and sends quality scores as feedback.

    The hooks on LangSmith's run trees are installed with the first run that starts, and removed by ``close()``.

    Args:
        subagents: Nodes and agents whose runs are tagged ``subagent:<name>``.
        features: What serves an intent: the runs of its nodes are tagged ``feature:<feature>``.
        on_failure: Called with ``langsmith`` for each run that leaves without the cost that the handler knows. Called
            with ``feedback`` for each quality score that did not reach LangSmith.
    """

    def __init__(
        self,
        *,
        subagents: Sequence[str] = (),
        features: Features | None = None,
        on_failure: Callable[[str], None],
    ) -> None:
        # Weak: no cycle keeps the outputs of a handler that is gone.
        self._is_open: WeakMethod[Callable[[UUID], bool]] | None = None
        self._settle: WeakMethod[Callable[[], None]] | None = None
        self._subagents = frozenset(subagents)
        self._features = read_features(features)
        self._on_failure = on_failure
        self._feedback = FeedbackSender(partial(on_failure, "feedback"))
        self._pending: dict[UUID, _Pending] = {}
        # Those of them whose run may not be traced: no end then takes the update.
        self._unsure: deque[UUID] = deque()
        # What was written on the runs whose end was sent last.
        self._written: dict[UUID, _Pending] = {}
        # Ends that the tracers of a run sent before the handler had a record.
        self._held: dict[UUID, list[tuple[RunTree, Send]]] = {}
        # Those of them whose record exists now. They are sent without a lock: another handler may have to settle first.
        self._to_send: deque[tuple[RunTree, Send]] = deque()
        # Model runs with a cost whose end was not sent yet, by trace.
        self._unsent: dict[UUID, set[UUID]] = {}
        # Reentrant: a garbage collection can end an abandoned stream while this thread holds the lock.
        self._lock = threading.RLock()
        self._is_installed = False
        forks.register(self)

    def follow(self, *, is_open: Callable[[UUID], bool], settle: Callable[[], None]) -> None:
        """Follow the runs of one handler.

        Args:
            is_open: A method that returns whether a run is open: its end is then held back until its record exists.
            settle: A method that makes the records of the ended runs that wait for theirs.
        """
        self._is_open, self._settle = WeakMethod(is_open), WeakMethod(settle)

    def on_start(self, run: OpenRun) -> None:
        """Install the hooks with the first run."""
        if not self._is_installed:
            with self._lock:
                if not self._is_installed:
                    self._is_installed = True
                    add_listener(self)

    def needs_record(self, run: OpenRun) -> bool:
        """Return whether the end of a run is held back until its record exists."""
        return run.run_id in self._held

    def on_link_end(self, run: OpenRun) -> None:
        """Keep the tags of a link, as of any other run."""
        self.on_end(run, None)
        self.on_recorded()

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Keep what is to be written until the end is sent; ``on_recorded`` sends it if it was held back."""
        is_sure = run.run_id in self._held or started_run(run.run_id) is not None
        if not is_sure and not _may_be_traced(run):
            return
        update, scores = RunUpdate({}), _NO_SCORES
        try:
            update = self._update_of(run, record)
            if isinstance(record, NodeRun):
                scores = record.feedback
        finally:
            with self._lock:
                self._pending[run.run_id] = _Pending(update, scores, run.trace_id)
                if len(self._pending) > _MAX_UPDATES:
                    del self._pending[next(iter(self._pending))]
                if not is_sure:
                    self._unsure.append(run.run_id)
                    if len(self._unsure) > _MAX_UNSURE:
                        self._pending.pop(self._unsure.popleft(), None)
                if isinstance(record, LLMCall) and record.cost is not None and record.status != "cancelled":
                    self._unsent.setdefault(run.trace_id, set()).add(run.run_id)
                self._to_send.extend(self._held.pop(run.run_id, ()))
            if isinstance(record, GraphRun) and self._unsent:
                self._count_unsent(self._unsent.pop(run.trace_id, ()))

    def on_recorded(self) -> None:
        """Send the ends that were held back until their record existed."""
        while self._to_send:
            try:
                run, send = self._to_send.popleft()
            except IndexError:
                return  # another thread sends it
            try:
                send_end(run, send)
            except Exception:
                _logger.exception("The end of run %s could not be sent to LangSmith.", run.id)
                self._on_failure("langsmith")

    def on_unfinished(self, run: OpenRun, reason: str) -> None:
        """Send the end of a run whose end callback did not fire: then no tracer sends it either."""
        self.end_started(run.run_id, reason)

    def end_started(self, run_id: UUID, reason: str) -> None:
        """Send the end of a run whose start was sent, and that will get no end callback."""
        tree = started_run(run_id)
        if tree is None:
            return
        if tree.error is None:
            tree.end(error=reason)
        tree.patch()

    def must_hold(self, run: RunTree, send: Send) -> bool:
        """Return whether the end must wait for the handler's record; then ``on_recorded`` sends it."""
        with self._lock:
            is_open = None if self._is_open is None else self._is_open()
            if run.id in self._pending or is_open is None or not is_open(run.id):
                return False
            self._held.setdefault(run.id, []).append((run, send))
            return True

    def before_end(self, run: RunTree, written: Written) -> None:
        """Write on a run whose end is sent what another handler has not written yet."""
        is_known = run.id in self._pending or run.id in self._written
        if not is_known and self._settle is not None and (settle := self._settle()) is not None:
            settle()
        with self._lock:
            pending = self._pending.pop(run.id, None)
            if pending is not None:
                # The scores are sent once.
                self._written[run.id] = pending._replace(scores=_NO_SCORES)
                if len(self._written) > _MAX_WRITTEN:
                    del self._written[next(iter(self._written))]
            elif (pending := self._written.get(run.id)) is None:
                return
            if (unsent := self._unsent.get(pending.trace_id)) is not None:
                unsent.discard(run.id)
                if not unsent:
                    del self._unsent[pending.trace_id]
        try:
            update = pending.update
            if written.metadata_keys:
                metadata = {key: value for key, value in update.metadata.items() if key not in written.metadata_keys}
                update = RunUpdate(metadata, update.tags, None if written.has_usage else update.usage)
            update.apply(run)
            written.has_usage = written.has_usage or update.usage is not None
            written.metadata_keys.update(update.metadata)
            scores = {key: score for key, score in pending.scores.items() if key not in written.score_keys}
            written.score_keys.update(scores)
            if scores:
                self._feedback.send(run, scores)
        except Exception:
            _logger.exception("Run %s could not be written on; LangSmith gets it without its cost.", run.id)
            self._on_failure("langsmith")

    def after_fork_in_child(self) -> None:
        """Leave the updates and ends that wait to the parent."""
        self._lock = threading.RLock()
        self._pending.clear()
        self._unsure.clear()
        self._written.clear()
        self._held.clear()
        self._to_send.clear()
        self._unsent.clear()

    def close(self) -> None:
        """Send the ends that are held back and the feedback that waits; remove the hooks."""
        with self._lock:
            held = [*self._to_send, *(end for ends in self._held.values() for end in ends)]
            self._to_send.clear()
            self._held.clear()
            self._pending.clear()
            self._unsure.clear()
            self._written.clear()
        if self._is_installed:
            self._is_installed = False
            remove_listener(self)
        for run, send in held:
            send_end(run, send)
        while self._unsent:
            self._count_unsent(self._unsent.popitem()[1])
        self._feedback.close(_CLOSE_SECONDS)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the feedback queued so far was sent; return whether the time sufficed."""
        return self._feedback.flush(timeout_seconds)

    def _count_unsent(self, run_ids: Iterable[UUID]) -> None:
        """Count model runs with a cost whose end did not pass the hooks."""
        for run_id in run_ids:
            self._on_failure("langsmith")
            _warn_once(run_id)

    def _update_of(self, run: OpenRun, record: Record | None) -> RunUpdate:
        context = run.context
        if record is not None:
            intent, tenant_id = record.intent, record.tenant_id
        elif context is not None:
            intent, tenant_id = context.current_intent(run.state), context.current_tenant_id(run.state)
        else:
            intent = tenant_id = ""
        metadata: dict[str, Any] = {}
        if intent and intent != UNCLASSIFIED:
            metadata["intent"] = intent
        if tenant_id:
            metadata["tenant_id"] = tenant_id
        if agent_name := run.place.agent_name:
            metadata["agent_name"] = agent_name
        tags = self._tags_of_nodes(run if isinstance(run, OpenNodeRun) else run.node, intent)
        if self._subagents:
            tags = list(dict.fromkeys([*tags, *self._tags_of_agents(run)]))
        if not isinstance(record, LLMCall | NodeRun | GraphRun):
            return RunUpdate(metadata, tags)
        metadata |= _cost_metadata(record)
        # Never on a node or request: LangSmith adds up the model runs by itself.
        usage = record.usage if isinstance(record, LLMCall) else None
        return RunUpdate(metadata, tags, None if usage is None else usage_metadata(usage, record.cost))

    def _tags_of_agents(self, run: OpenRun) -> Iterator[str]:
        """Yield the tags of the subagents around a run that are agents and no nodes."""
        above: OpenRun | None = run
        while above is not None:
            if above.agent is not None and above.agent in self._subagents:
                yield f"subagent:{above.agent}"
            above = above.parent

    def _tags_of_nodes(self, node: OpenNodeRun | None, intent: str) -> list[str]:
        """Return the tags of a node and of the nodes around it: runs below a node carry them too."""
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
            parallel |= node.is_parallel or (serving is not None and serving.parallel and name in working)
            node = node.node
        return [*tags, "execution:parallel"] if parallel else tags


def _may_be_traced(run: OpenRun) -> bool:
    """Return whether LangSmith may trace a run whose start it was not sent: then its start is sent with its end."""
    if not run.defers_inputs:
        return False
    above = run.parent
    while above is not None and above.defers_inputs:
        above = above.parent
    return above is None or started_run(above.run_id) is not None


def _cost_metadata(record: LLMCall | NodeRun | GraphRun) -> dict[str, Any]:
    """Return the plain metadata on what a run cost, and what makes the figure uncertain."""
    metadata: dict[str, Any] = {}
    unpriced_calls = 0 if isinstance(record, LLMCall) else record.unpriced_calls
    if record.cost is not None and (record.cost.total_usd or not unpriced_calls):
        metadata["cost_usd"] = float(record.cost.total_usd)
    if record.usage is not None:
        metadata["tokens"] = record.usage.total_tokens
    if record.estimated:
        metadata["cost_estimated"] = True
    if unpriced_calls:
        metadata["unpriced_calls"] = unpriced_calls
    if isinstance(record, LLMCall):
        if record.estimate_reason is not None:
            metadata["estimate_reason"] = record.estimate_reason
        if record.unpriced_reason is not None:
            metadata["unpriced_reason"] = record.unpriced_reason
    return metadata


def _warn_once(run_id: UUID) -> None:
    if is_first("langsmith", "unsent"):
        _logger.error(
            "LangSmith was not sent the cost of run %s: its end did not pass RunTree.patch. Check what else replaces "
            'that method. Each such run is counted in eco2_callbacks_errors_total{callback="langsmith"}.',
            run_id,
        )
