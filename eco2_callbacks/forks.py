"""Keeps locks and queues sound in a forked child.

At the moment of a fork, a thread of the parent can hold a lock or change a table. The child has no such thread.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from weakref import WeakSet

__all__ = ["ForkAware", "ForkLock", "importing", "register"]


class ForkAware:
    """An object that takes part in forks."""

    def before_fork(self) -> None:
        """Wait until no other thread is inside, and keep them out. Needed where a lock is held for long."""

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""

    def after_fork_in_child(self) -> None:
        """Replace the locks, and drop what the parent's threads will do."""


_registered: WeakSet[ForkAware] = WeakSet()
_lock = threading.RLock()  # a finaliser may register while its thread does
_forking = threading.Lock()  # one fork at a time
_is_hooked = False


def register(participant: ForkAware) -> None:
    """Have an object take part in forks, as long as it lives; the first one installs the process's fork hooks."""
    global _is_hooked  # noqa: PLW0603  a fork hook is the process's and cannot be removed
    with _lock:
        _registered.add(participant)
        if not _is_hooked:
            _is_hooked = True
            os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)


class ForkLock(ForkAware):
    """A reentrant lock that is free in a forked child, whatever thread of the parent held it.

    For data that is sound at every moment. Code that holds it must not fork. ``with lock.held:`` takes it: the
    interpreter's own lock, which an interrupt never leaves taken.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._is_registered = False  # the first use registers it: an import installs no hook

    @property
    def held(self) -> AbstractContextManager[object]:
        """The lock of this process, to be used in a ``with`` statement."""
        if not self._is_registered:
            register(self)
            self._is_registered = True
        return self._lock

    def after_fork_in_child(self) -> None:
        """Replace the lock."""
        self._lock = threading.RLock()


class _Importing(ForkLock):
    """Keeps forks out while a thread imports with a first use: a child would wait for ever for the module's lock."""

    def before_fork(self) -> None:
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        self._lock.release()


importing = _Importing()

_frozen: list[ForkAware] = []
_late: list[ForkAware] = []  # registered while the others were being held


def _before() -> None:
    _forking.acquire()
    with _lock:
        _frozen[:] = list(_registered)
    for participant in _frozen:
        participant.before_fork()
    # Not held above: a thread may register while it holds what a participant waits for.
    _lock.acquire()
    known = set(_frozen)
    _late[:] = [participant for participant in _registered if participant not in known]


def _after_in_parent() -> None:
    for participant in _frozen:
        participant.after_fork_in_parent()
    _frozen.clear()
    _late.clear()
    _lock.release()
    _forking.release()


def _after_in_child() -> None:
    global _lock, _forking
    _lock, _forking = threading.RLock(), threading.Lock()
    # Locks first: the others, and what a garbage collection meanwhile ends, may need one.
    for participant in sorted([*_frozen, *_late], key=lambda participant: not isinstance(participant, ForkLock)):
        participant.after_fork_in_child()
    _frozen.clear()
    _late.clear()
