"""OwnRun: a block whose run is opened on entry and closed on exit."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

from langchain_core.outputs import ChatGenerationChunk

from eco2_callbacks.errors import BudgetExceeded
from eco2_callbacks.langsmith import RunTree, end_own_run, start_own_run
from eco2_callbacks.runs import Outcome, Tracker, context_metadata, context_run_id

try:
    from langsmith import uuid7 as _new_run_id
except ImportError:  # an older langsmith, which takes any id
    _new_run_id = uuid.uuid4

__all__ = ["OwnRun", "OwnRunHost"]


class OwnRunHost(NamedTuple):
    """What a block needs of its handler.

    Attributes:
        tracker: The handler's.
        on_chunk: Adds a streamed chunk to an open call.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
        on_fault: Called with a text about what the application passed, and with the callback's name.
        admit: Lets a call start, or raises BudgetExceeded.
    """

    tracker: Tracker
    on_chunk: Callable[[UUID, ChatGenerationChunk], None]
    on_failure: Callable[[str, UUID | None], None]
    on_fault: Callable[[str, str], None]
    admit: Callable[..., None]


class OwnRun:
    """A block whose run is opened on entry and closed on exit; works with ``with`` and ``async with``.

    What goes wrong inside it is logged and counted. It raises nothing but a refusal by a budget, on entry, and hides no
    exception of the application.
    """

    _callback: Literal["call", "tool"]
    _run_type: Literal["llm", "tool"]

    def __init__(self, host: OwnRunHost, *, name: str, metadata: Mapping[str, Any], tags: tuple[str, ...]) -> None:
        self._host = host
        self._name = name
        self._own_metadata = metadata
        self._tags = tags
        self._run_id: UUID | None = None
        self._context_run_id: UUID | None = None
        self._tree: RunTree | None = None
        self._token: Token[OwnRun | None] | None = None

    @property
    def run_id(self) -> UUID | None:
        """The run's id, as in its record; None before the block is entered."""
        return self._run_id

    def __enter__(self) -> Self:
        try:
            self._open()
        except BudgetExceeded:
            self._run_id = None
            self._reset()
            raise
        except Exception:
            self._host.on_failure(self._callback, self._run_id)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close(exc)
        except Exception:
            self._host.on_failure(self._callback, self._run_id)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def _open(self) -> None:
        run_id = self._run_id = _new_run_id()
        self._context_run_id = context_run_id()
        above = _innermost.get()
        # A LangChain run that was opened inside the block around this one is nearer.
        if above is not None and (above._context_run_id != self._context_run_id or not above.is_open):
            above = None
        parent_run_id = self._context_run_id if above is None else above.run_id
        metadata = {**context_metadata(), **self._own_metadata}
        self._token = _innermost.set(self)
        self._start(run_id, parent_run_id, metadata)
        try:
            self._tree = start_own_run(
                run_id,
                None if above is None else above._tree,
                name=self._name,
                run_type=self._run_type,
                inputs=self._inputs(),
                metadata=metadata,
                tags=self._tags,
            )
        except Exception:
            self._host.on_failure("langsmith", run_id)

    def _close(self, exc: BaseException | None) -> None:
        run_id, tree = self._run_id, self._tree
        self._tree = None
        self._reset()
        if run_id is None:
            return
        outcome = self._end(run_id, exc)
        if tree is not None:
            error = None if outcome.status == "success" else repr(exc) if exc is not None else "Cancelled"
            try:
                end_own_run(tree, outputs=self._outputs(), error=error)
            except Exception:
                self._host.on_failure("langsmith", run_id)

    def _reset(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            with suppress(ValueError):  # a generator can be closed in another context
                _innermost.reset(token)

    @property
    def is_open(self) -> bool:
        """Whether the block is entered and not yet left."""
        return self._run_id is not None and self._host.tracker.is_open(self._run_id)

    @abstractmethod
    def _start(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any]) -> None: ...

    @abstractmethod
    def _end(self, run_id: UUID, exc: BaseException | None) -> Outcome: ...

    @abstractmethod
    def _inputs(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def _outputs(self) -> Mapping[str, Any]: ...


# The block that this code runs in.
_innermost: ContextVar[OwnRun | None] = ContextVar("eco2_own_run", default=None)
