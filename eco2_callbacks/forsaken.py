"""CallWatch: which open model calls nobody can tell the end of any more."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Iterator
from inspect import CO_ASYNC_GENERATOR, CO_GENERATOR
from typing import Any
from uuid import UUID

from langchain_core.language_models import chat_models, llms

from eco2_callbacks.runs import OpenCall
from eco2_callbacks.traced import Teller

__all__ = ["CallWatch"]

_CHAT_MODELS, _LLMS = vars(chat_models), vars(llms)
_GENERATOR = CO_GENERATOR | CO_ASYNC_GENERATOR


class CallWatch:
    """Notices calls that were dropped without anybody being told.

    LangChain does so with a call that is cancelled and does not stream, with a v3 stream that nobody reads on, and with
    the other prompts of a ``generate`` of which one failed. But its models hold the manager that tells of a call as
    long as the call lasts: once that is gone, nobody is left to tell.

    Attributes:
        dropped: The calls dropped since they were last taken; those told of meanwhile may be among them.
    """

    def __init__(self) -> None:
        self.dropped: deque[OpenCall] = deque()
        self._watched: dict[UUID, tuple[weakref.ref[Any], Callable[[Any], None]]] = {}

    def opened(self, call: OpenCall, teller: Teller | None) -> None:
        """Watch a call that just opened; one that other code makes may outlast its manager, and is not."""
        if teller is None or (model := teller.caller) is None or model.f_code.co_flags & _GENERATOR:
            return  # a generator tells when it is closed, and whoever collects it closes it
        if model.f_globals is not _CHAT_MODELS and model.f_globals is not _LLMS:
            return
        dropped = self.dropped

        def drop(_: object) -> None:
            # No more than that: it can happen in the middle of anything, whatever locks are held there.
            dropped.append(call)

        self._watched[call.run_id] = weakref.ref(teller.manager, drop), drop
        if call.task is not None and model.f_code.co_name == "agenerate":
            # It ends with its task, even if somebody keeps the exception that ended it and with it the manager.
            call.task.add_done_callback(drop)

    def told(self, call: OpenCall) -> None:
        """Watch a call no longer, of whose end somebody told."""
        watched = self._watched.pop(call.run_id, None)
        if watched is not None and call.task is not None:
            call.task.remove_done_callback(watched[1])

    def take(self) -> Iterator[OpenCall]:
        """Return each call that was dropped, and watch it no longer."""
        while self.dropped:
            call = self.dropped.popleft()
            if call.run_id in self._watched:
                self.told(call)
                yield call
