"""Hooks on LangSmith's ``RunTree.post`` and ``RunTree.patch``, for the whole process.

LangChain's tracer sends a run only through these two public methods: ``post`` at its start, ``patch`` at its end. A run
whose inputs arrive as a stream is sent by one ``post`` at its end. The hooks let listeners write on a run at the last
moment before its end is sent, and hold the end back until they can. So they serve a tracer before and after the
handler, and other handlers between them. Unsampled runs call neither method.

Tested with langsmith 0.15.1 and langchain-core 1.0.0 to 1.8.3.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial, wraps
from typing import Any, Protocol
from uuid import UUID

from langsmith.run_trees import RunTree

from eco2_callbacks.forks import ForkLock
from eco2_callbacks.langsmith.log_throttle import add_throttle, remove_throttle

__all__ = ["RunTreeListener", "Send", "Written", "add_listener", "remove_listener", "send_end", "started_run"]

Send = Callable[[], None]
# Runs whose start was sent and whose end was not; beyond this number the oldest is forgotten.
_MAX_STARTED = 10_000


class Written:
    """What listeners have written on one run so far: of two handlers on a run, one writes each thing.

    Attributes:
        has_usage: Whether usage and cost are written.
        metadata_keys: The keys of the metadata that is written.
        score_keys: The keys of the quality scores that are sent.
    """

    __slots__ = ("has_usage", "metadata_keys", "score_keys")

    def __init__(self) -> None:
        self.has_usage = False
        self.metadata_keys: set[str] = set()
        self.score_keys: set[str] = set()


class RunTreeListener(Protocol):
    """Writes on run trees before their end is sent."""

    def must_hold(self, run: RunTree, send: Send) -> bool:
        """Called before the end of a run is sent; return True to hold it back and pass it to ``send_end`` later."""

    def before_end(self, run: RunTree, written: Written) -> None:
        """Called when no listener holds the end back: write on the run what earlier listeners have not."""


_lock = ForkLock()
# Weak: a handler that the application forgot is collected, and with it its listener.
_listeners: tuple[weakref.ref[RunTreeListener], ...] = ()
_started: dict[UUID, RunTree] = {}
# What each of our wrappers wraps. Other code may keep a wrapper and put it back later, so none is forgotten.
_wrapped: dict[Callable[..., None], Callable[..., None]] = {}


def add_listener(listener: RunTreeListener) -> None:
    """Add a listener until it is removed or collected.

    The first one wraps ``RunTree.post`` and ``RunTree.patch``, and throttles the log lines of LangSmith's client. A
    later one wraps them again where other code has replaced them since. A wrapper inside a wrapper does no harm: an end
    that a listener has written on passes the second one as it is.
    """
    with _lock.held:
        if not _listeners:
            add_throttle()
        _set_listeners((*_listeners, weakref.ref(listener, _remove)))
        _wrap("post", _on_post)
        _wrap("patch", _on_patch)


def remove_listener(listener: RunTreeListener) -> None:
    """Remove a listener; the last one restores both methods and the log.

    Where other code has wrapped the methods since, ours stay in place below and only pass calls on.
    """
    with _lock.held:
        for reference in _listeners:
            if reference() is listener:
                _remove(reference)


def _remove(reference: weakref.ref[RunTreeListener]) -> None:
    with _lock.held:
        _set_listeners(tuple(other for other in _listeners if other is not reference))
        if _listeners:
            return
        _started.clear()
        remove_throttle()
        for name in ("post", "patch"):
            method = getattr(RunTree, name)
            while method in _wrapped:
                method = _wrapped[method]
            setattr(RunTree, name, method)


def _set_listeners(listeners: tuple[weakref.ref[RunTreeListener], ...]) -> None:
    """Keep these listeners, but not those that are collected meanwhile.

    Making a tuple can start a garbage collection, which removes a listener from the tuple of before.
    """
    global _listeners  # noqa: PLW0603  the class is the process's, and so is this list
    _listeners = listeners
    while any(reference() is None for reference in _listeners):
        _listeners = tuple(reference for reference in _listeners if reference() is not None)


def started_run(run_id: UUID) -> RunTree | None:
    """Return the run tree whose start was sent and whose end was not; None if there is none."""
    return _started.get(run_id)


def send_end(run: RunTree, send: Send) -> None:
    """Send the end of a run, unless a listener holds it back."""
    listeners = [listener for reference in _listeners if (listener := reference()) is not None]
    for listener in listeners:
        if listener.must_hold(run, send):
            return
    written = Written()
    for listener in listeners:
        listener.before_end(run, written)
    _started.pop(run.id, None)
    send()


def _wrap(name: str, hook: Callable[[RunTree, Send], None]) -> None:
    method = getattr(RunTree, name)
    if method not in _wrapped:
        wrapper = next((wrapper for wrapper, wrapped in _wrapped.items() if wrapped is method), None)
        setattr(RunTree, name, wrapper or _new_wrapper(method, hook))


def _new_wrapper(method: Callable[..., None], hook: Callable[[RunTree, Send], None]) -> Callable[..., None]:
    @wraps(method)
    def wrapper(self: RunTree, *args: Any, **kwargs: Any) -> None:
        hook(self, partial(method, self, *args, **kwargs))

    _wrapped[wrapper] = method
    return wrapper


def _on_post(run: RunTree, send: Send) -> None:
    if run.extra.get("defers_inputs"):
        send_end(run, send)
        return
    if _listeners:
        _started[run.id] = run
        if len(_started) > _MAX_STARTED:
            # Another thread may have removed it first.
            with suppress(KeyError, RuntimeError, StopIteration):
                del _started[next(iter(_started))]
    send()


def _on_patch(run: RunTree, send: Send) -> None:
    send_end(run, send)
