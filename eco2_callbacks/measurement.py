"""Measurement: the totals of one block of code, and the observer that keeps them and the handler's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar
from types import TracebackType
from uuid import UUID

from eco2_callbacks import forks
from eco2_callbacks.pricing import Cost
from eco2_callbacks.records import LLMCall, Record
from eco2_callbacks.runs import OpenGraphRun, OpenLLMCall, OpenRun, RunObserver
from eco2_callbacks.totals import RunningTotals, Totals
from eco2_callbacks.usage import TokenUsage

__all__ = ["Measurement", "TotalsObserver"]


class TotalsObserver(RunObserver, forks.ForkAware):
    """Adds each model call to the handler's totals, and to the blocks that it or its request started in."""

    def __init__(self) -> None:
        self._totals = RunningTotals()
        self._blocks_of_call: dict[UUID, tuple[Measurement, ...]] = {}
        self._blocks_of_request: dict[UUID, tuple[Measurement, ...]] = {}
        forks.register(self)

    def on_start(self, run: OpenRun) -> None:
        """Remember the blocks that a call or a request starts in: it may end in other code."""
        blocks = _blocks.get()
        if not (blocks or self._blocks_of_request):
            return
        if isinstance(run, OpenLLMCall):
            # A thread of the request has a context of its own, where no block is listed.
            around = self._blocks_of_request.get(run.trace_id, ())
            self._blocks_of_call[run.run_id] = self._own(dict.fromkeys((*around, *blocks)))
        elif blocks and isinstance(run, OpenGraphRun):
            self._blocks_of_request[run.run_id] = self._own(blocks)

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Add a call that ended."""
        if not isinstance(run, OpenLLMCall):
            self._blocks_of_request.pop(run.run_id, None)
            return
        blocks = self._blocks_of_call.pop(run.run_id, ()) if self._blocks_of_call else ()
        if isinstance(record, LLMCall):
            self._add(record, blocks)

    def emit(self, record: Record) -> None:
        """Add a call that the application recorded itself."""
        if isinstance(record, LLMCall):
            self._add(record, self._own(_blocks.get()))

    def totals(self) -> Totals:
        """Return the totals of all calls."""
        return self._totals.totals()

    def after_fork_in_child(self) -> None:
        """Start at 0: the parent counts what it counted."""
        self._totals.reset()
        self._blocks_of_call.clear()
        self._blocks_of_request.clear()

    def _own(self, blocks: Iterable[Measurement]) -> tuple[Measurement, ...]:
        return tuple(block for block in blocks if block.belongs_to(self))

    def _add(self, call: LLMCall, blocks: tuple[Measurement, ...]) -> None:
        self._totals.add(call)
        for block in blocks:
            block.add(call)


class Measurement:
    """The model calls that start inside one ``with`` block.

    Calls count that belong to a request of the block, or that run in its own context: its code, its tasks, and the
    threads that LangChain and ``asyncio.to_thread`` start. A plain ``threading.Thread`` has a context of its own: for
    calls outside a request, run its target by ``contextvars.copy_context().run``, or read ``handler.totals()``. A call
    that starts inside the block and ends later is added when it ends.
    """

    def __init__(self, owner: object, settle: Callable[[], object]) -> None:
        self._owner = owner
        self._settle = settle  # ended calls can wait for their records
        self._totals = RunningTotals()
        self._is_open = False

    def __enter__(self) -> Measurement:
        self._is_open = True
        _blocks.set((*_blocks.get(), self))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # Tasks that the block started keep a context in which it is listed.
        self._is_open = False
        # No token: a generator can leave the block in another context than it entered it.
        _blocks.set(tuple(block for block in _blocks.get() if block is not self))

    def belongs_to(self, owner: object) -> bool:
        """Return whether the block is open and of this owner."""
        return self._is_open and self._owner is owner

    def add(self, call: LLMCall) -> None:
        """Add one call."""
        self._totals.add(call)

    def totals(self) -> Totals:
        """Return everything at once, as one moment has it."""
        self._settle()
        return self._totals.totals()

    @property
    def llm_calls(self) -> int:
        """Number of calls that have ended."""
        return self.totals().llm_calls

    @property
    def usage(self) -> TokenUsage:
        """Tokens and other counts."""
        return self.totals().usage

    @property
    def cost(self) -> Cost:
        """USD; leaves out what ``totals().unpriced_calls`` calls have no price for."""
        return self.totals().cost

    def __str__(self) -> str:
        return str(self.totals())


_blocks: ContextVar[tuple[Measurement, ...]] = ContextVar("eco2_callbacks_measurements", default=())
