"""Installed handlers: attached to every run of the process, also where no config reaches.

LangChain asks its configure hooks, at the start of each run, for a handler to add. A hook cannot be removed, and a
context variable set to None would do so in one context only. So each hook is a slot that this module fills and empties:
``get()`` returns the installed handler in every thread. A slot that is empty is used again. The number of hooks is
that of the handlers that were installed at one moment.
"""

from __future__ import annotations

import threading
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import register_configure_hook

from eco2_callbacks import forks

__all__ = ["install", "is_installed", "uninstall"]


class _Slot:
    """What LangChain takes for a context variable."""

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self.handler: BaseCallbackHandler | None = handler
        self._asked = threading.local()

    def get(self) -> BaseCallbackHandler | None:
        """Return the installed handler.

        LangChain calls this twice, and raises if only the first call returned a handler. So the second call of a thread
        repeats the first one's answer, although another thread may have uninstalled the handler in between.
        """
        asked = self._asked.__dict__
        answer = cast("BaseCallbackHandler | None", asked.pop("handler", None))
        if answer is None and (answer := self.handler) is not None:
            asked["handler"] = answer
        return answer


class _Slots(forks.ForkAware):
    """All slots of the process."""

    def __init__(self) -> None:
        self._slots: list[_Slot] = []
        self._lock = threading.RLock()
        self._is_registered = False

    def fill(self, handler: BaseCallbackHandler) -> None:
        with self._lock:
            if not self._is_registered:
                self._is_registered = True
                forks.register(self)
            if self.holds(handler):
                return
            for slot in self._slots:
                if slot.handler is None:
                    slot.handler = handler
                    return
            slot = _Slot(handler)
            self._slots.append(slot)
            # The hook is typed as a context variable; LangChain only calls its get().
            register_configure_hook(cast("Any", slot), inheritable=True)

    def empty(self, handler: BaseCallbackHandler) -> None:
        with self._lock:
            for slot in self._slots:
                if slot.handler is handler:
                    slot.handler = None

    def holds(self, handler: BaseCallbackHandler) -> bool:
        return any(slot.handler is handler for slot in self._slots)

    def after_fork_in_child(self) -> None:
        """Replace the lock; what was installed stays installed in the child."""
        self._lock = threading.RLock()


_slots = _Slots()


def install(handler: BaseCallbackHandler) -> None:
    """Attach a handler to every run that starts in the process from now on; a second call changes nothing."""
    _slots.fill(handler)


def uninstall(handler: BaseCallbackHandler) -> None:
    """Attach the handler to no further run, in all threads. Runs that are open keep it."""
    _slots.empty(handler)


def is_installed(handler: BaseCallbackHandler) -> bool:
    """Return whether the handler is installed."""
    return _slots.holds(handler)
