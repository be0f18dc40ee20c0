"""TracedRun: a run as LangSmith's tracers see it, on which can be written until its end is sent."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.callbacks import manager
from langchain_core.runnables.config import var_child_runnable_config
from langchain_core.tracers import LangChainTracer
from langsmith import Client
from langsmith.run_trees import RunTree

__all__ = ["Note", "Teller", "TracedRun", "teller_of_event", "tracers_of"]

_MANAGERS = vars(manager)
# The handler's callback, the tracker and this function lie in between; other handlers may wrap ours.
_NEAREST_FRAME = 3
_FARTHEST_FRAME = 16


class Teller(NamedTuple):
    """LangChain's callback manager that tells of an event, and the frame of the code that had it do so."""

    manager: Any
    caller: FrameType | None


def teller_of_event() -> Teller | None:
    """Return who tells the handler of the event at hand.

    A handler is handed neither its neighbours nor their manager, and only below a runnable is there a context that
    leads to them; so the manager is read off the call stack. Where a handler around ours went to a task of its own
    first it is not there.
    """
    frame: FrameType | None = sys._getframe(_NEAREST_FRAME)
    for _ in range(_FARTHEST_FRAME):
        if frame is None:
            break
        # A method has a dot in its name; asking for its variables first would copy them all in every frame.
        if frame.f_globals is _MANAGERS and "." in frame.f_code.co_qualname and "self" in (told := frame.f_locals):
            return Teller(told["self"], frame.f_back)
        frame = frame.f_back
    return None


def tracers_of(teller: Teller | None) -> tuple[LangChainTracer, ...]:
    """Return the LangSmith tracers that are told of an event as the handler is."""
    told = (var_child_runnable_config.get() or {}).get("callbacks") if teller is None else teller.manager
    handlers = getattr(told, "handlers", ())
    # By ancestry: an abstract class takes ten times as long over isinstance().
    return tuple([handler for handler in handlers if LangChainTracer in type(handler).__mro__])


class Note(NamedTuple):
    """What is to be written on a run; None of a usage leaves the tracer's own."""

    metadata: Mapping[str, Any]
    tags: Sequence[str] = ()
    usage: Mapping[str, Any] | None = None


class TracedRun:
    """One run as the LangSmith tracers around the handler see it, before it or after it.

    Args:
        run_id: The run's.
        tracers: Those that are told of the run's events as the handler is.
    """

    __slots__ = ("_key", "_tracers", "_unsent")

    def __init__(self, run_id: UUID, tracers: Sequence[LangChainTracer]) -> None:
        self._key = str(run_id)
        self._tracers = tracers
        self._unsent: dict[int, _Unsent] = {}
        # A tracer before the handler has the run already, and would send its end before the handler is told of it.
        self._hold()

    def write(self, note: Note) -> list[RunTree]:
        """Write on the run, and have its end sent if its tracer has asked for that; return what LangSmith is told."""
        self._hold()
        for unsent in self._unsent.values():
            unsent.write(note)
        return [unsent.run for unsent in self._unsent.values() if not unsent.disabled]

    def end(self, error: str) -> None:
        """Send the end of a run, written on before, of which LangChain tells no tracer."""
        for unsent in self._unsent.values():
            unsent.end(error)

    def _hold(self) -> None:
        for tracer in self._tracers:
            if (run := tracer.run_map.get(self._key)) is not None and id(run) not in self._unsent:
                self._unsent[id(run)] = _Unsent.of(run)


class _Unsent:
    """Stands before the method by which the tracer sends a run's end until what is to be written on it is known.

    The run is the tracer's own object, so nothing that the application or another handler sees is touched, and the
    tracer's one request carries it. It has to happen at the sending and not before: the tracer overwrites the usage
    at the last moment.
    """

    def __init__(self, run: RunTree) -> None:
        self.run = run
        # A run whose inputs arrive as a stream is sent as a whole at its end.
        self._method = "post" if run.extra.get("defers_inputs") else "patch"
        self._send: Callable[..., None] = getattr(run, self._method)
        self._note: Note | None = None
        self._asked: Callable[[], None] | None = None
        self._sent = False

    @classmethod
    def of(cls, run: RunTree) -> _Unsent:
        """Return the one that stands before a run, put there now if there is none: two handlers share it."""
        for standing in (run.__dict__.get("patch"), run.__dict__.get("post")):
            if isinstance(standing, cls):
                return standing
        unsent = cls(run)
        # Not by assignment: a pydantic model takes only its fields that way.
        run.__dict__[unsent._method] = unsent
        return unsent

    @property
    def disabled(self) -> bool:
        """Whether LangSmith is told nothing of this run."""
        return bool(self.run.extra.get("__disabled"))

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Send the run's end if it has been written on, else as soon as it is."""
        self._asked = partial(self._send, *args, **kwargs)
        if self._note is not None:
            self._go(self._note)

    def write(self, note: Note) -> None:
        """Take what is to be written; the first that comes after the tracer asked is the last."""
        if self._sent:
            return
        self._note = note
        if self._asked is not None:
            self._go(note)

    def end(self, error: str) -> None:
        """Send the end on the handler's own account. Should the tracer ask later after all, it is sent anew."""
        if self._sent or self.disabled or self._note is None:
            return
        if self.run.error is None:
            self.run.end(error=error)
        _write(self.run, self._note)
        self._send()

    def _go(self, note: Note) -> None:
        self._sent = True
        self.run.__dict__.pop(self._method, None)
        try:
            _write(self.run, note)
        finally:
            if self._asked is not None:
                self._asked()


def _write(run: RunTree, note: Note) -> None:
    metadata = {**(run.extra.get("metadata") or {}), **note.metadata}
    if note.usage is not None:
        metadata["usage_metadata"] = dict(note.usage)
        if not run.extra.get("__omit_auto_outputs"):  # set by the application: not ours to touch
            run.outputs = _retold(run.outputs or {}, note.usage)
    run.extra["metadata"] = metadata
    kept, tags = run.tags or [], list(note.tags)
    if intent := note.metadata.get("intent"):
        # The state's intent, which may differ from the one the request began with; as far as it may leave.
        kept = [tag for tag in kept if not tag.startswith("intent:")]
        if shown := _as_sent(run.client, "intent", intent):
            tags.append(f"intent:{shown}")
    run.tags = list(dict.fromkeys([*kept, *tags]))


def _as_sent(client: Client, key: str, value: str) -> str:
    """Return a metadata value as the client lets it out: whatever hides it there hides it in a tag."""
    hide = getattr(client, "_hide_run_metadata", None)
    shown = hide({key: value}).get(key) if hide is not None else value
    return shown if isinstance(shown, str) else ""


def _retold(outputs: dict[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model run's dumped outputs with this usage, once: where it stood, or beside what holds no message."""
    messages = [
        kwargs
        for batch in outputs.get("generations") or ()
        for generation in batch
        if isinstance(generation, dict)
        and isinstance(message := generation.get("message"), dict)
        and isinstance(kwargs := message.get("kwargs"), dict)
    ]
    if not messages:
        return {**outputs, "usage_metadata": dict(usage)}
    for kwargs in messages:
        kwargs.pop("usage_metadata", None)
    messages[0]["usage_metadata"] = dict(usage)
    return outputs
