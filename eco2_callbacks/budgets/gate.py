"""BudgetGate: the handler that refuses a model call before it is sent.

LangChain stops a call if a handler whose ``raise_error`` is true raises at its start. So the gate is a handler of its
own. It stands first, so that no other handler opens a run for a refused call.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage

from eco2_callbacks.budgets.batches import Batches
from eco2_callbacks.budgets.callers import Caller
from eco2_callbacks.budgets.report import BudgetReport
from eco2_callbacks.budgets.worst_case import PlannedCall
from eco2_callbacks.errors import BudgetExceeded
from eco2_callbacks.run_ids import uuid_of
from eco2_callbacks.usage import ServedModel, request_model, served_model

if TYPE_CHECKING:
    from eco2_callbacks.budgets.enforcer import BudgetEnforcer

__all__ = ["BudgetGate", "Identify"]

_logger = logging.getLogger(__name__)
_NO_METADATA: Mapping[str, Any] = {}
_MAX_REMEMBERED = 1000
# Parent's run id, run id, metadata, who serves the model, requested model.
Identify: TypeAlias = Callable[[UUID | None, UUID, Mapping[str, Any], ServedModel | None, str], Caller]


class BudgetGate(BaseCallbackHandler):
    """Lets a model call start, or refuses it with ``BudgetExceeded``.

    Attach it before the handler it belongs to, as ``run_config`` does.

    Args:
        enforcer: Decides.
        identify: Returns who makes a call: from its parent's run id, its own run id, its metadata, who serves it as
            far as known, and the requested model.
        on_refused: Called with the run ids of calls that were announced and are not sent, and why: a call that was
            refused or whose caller was interrupted, and the earlier prompts of its batch.
        on_failure: Called, while the exception is handled, if the gate cannot decide: the call then passes.
    """

    raise_error = True
    # LangChain's async managers call an inline handler at once, in order, and on the event's own thread.
    run_inline = True

    def __init__(
        self,
        enforcer: BudgetEnforcer,
        *,
        identify: Identify,
        on_refused: Callable[[Sequence[UUID], str], None],
        on_failure: Callable[[str, UUID | None], None],
    ) -> None:
        super().__init__()
        self._enforcer = enforcer
        self._identify = identify
        self._on_refused = on_refused
        self._on_failure = on_failure
        self._reservation_of = enforcer.reservation_of
        self._batches = Batches()
        # Decided on without a reservation: refused, or not to be decided on.
        self._remembered: dict[int, None] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return the gate itself: a copied config or model goes on asking it."""
        return self

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Decide on a chat model's call."""
        sent = messages[0] if messages else ()
        self.check(serialized, kwargs, run_id, parent_run_id, metadata, messages=sent)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Decide on a text-completion model's call."""
        self.check(serialized, kwargs, run_id, parent_run_id, metadata, prompts=prompts)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Decide on a decision model's call, which LangChain reports as a chain; prepare the budgets of a request."""
        if kwargs.get("run_type") == "llm":
            self.check(serialized, kwargs, run_id, parent_run_id, metadata, prompts=[str(inputs)])
        elif parent_run_id is None:
            try:
                self._enforcer.prepare(self._identify(None, uuid_of(run_id), metadata or _NO_METADATA, None, ""))
            except Exception:
                self._on_failure("budget_gate", run_id)

    def check(
        self,
        serialized: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        *,
        messages: Sequence[BaseMessage] = (),
        prompts: Sequence[str] = (),
    ) -> None:
        """Let a call pass, or refuse it; a call that was decided on before passes.

        Raises:
            BudgetExceeded: If a budget refuses the call.
        """
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        if parent_run_id is not None and type(parent_run_id) is not UUID:
            parent_run_id = uuid_of(parent_run_id)
        if self._reservation_of(run_id.int) is not None or run_id.int in self._remembered:
            return
        metadata = metadata or _NO_METADATA
        with _Decision(self, kwargs, run_id, parent_run_id):
            planned = _planned_call(serialized, kwargs, metadata, messages, prompts)
            caller = self._identify(parent_run_id, run_id, metadata, planned.served, planned.request_model)
            self._enforcer.admit(run_id, caller, planned)

    async def check_off_loop(
        self,
        serialized: Mapping[str, Any] | None,
        kwargs: Mapping[str, Any],
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        *,
        messages: Sequence[BaseMessage] = (),
        prompts: Sequence[str] = (),
    ) -> None:
        """Do the same on an event loop, which goes on while the call waits for the store.

        Raises:
            BudgetExceeded: If a budget refuses the call.
        """
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        if parent_run_id is not None and type(parent_run_id) is not UUID:
            parent_run_id = uuid_of(parent_run_id)
        if self._reservation_of(run_id.int) is not None or run_id.int in self._remembered:
            return
        metadata = metadata or _NO_METADATA
        with _Decision(self, kwargs, run_id, parent_run_id):
            planned = _planned_call(serialized, kwargs, metadata, messages, prompts)
            caller = self._identify(parent_run_id, run_id, metadata, planned.served, planned.request_model)
            await self._enforcer.admit_off_loop(run_id, caller, planned)

    def report(self, parent_run_id: UUID | None, metadata: Mapping[str, Any], model: str) -> BudgetReport:
        """Return the budgets in which a call with this metadata would count."""
        run_id = parent_run_id or UUID(int=0)
        caller = self._identify(parent_run_id, run_id, metadata, None, model)
        return BudgetReport(budgets=tuple(self._enforcer.states(caller)))

    def decided(self, error: BaseException | None, kwargs: Mapping[str, Any], run_id: UUID, above: UUID | None) -> bool:
        """Remember a decision; return whether its error is the gate's own fault, which stops no application."""
        is_failure = isinstance(error, Exception) and not isinstance(error, BudgetExceeded)
        if error is not None and not is_failure:
            self._discard(kwargs, run_id, above, error)
            return False
        if is_failure:
            self._remember(run_id)
            self._on_failure("budget_gate", run_id)
        if kwargs.get("batch_size", 1) != 1 and (refusal := self._batches.admit(kwargs, run_id, above)) is not None:
            self._discard(_NO_METADATA, run_id, above, refusal)
            raise refusal
        return is_failure

    def _remember(self, run_id: UUID) -> None:
        self._remembered[run_id.int] = None
        if (excess := len(self._remembered) - _MAX_REMEMBERED) > 0:
            for oldest in list(self._remembered)[:excess]:
                self._remembered.pop(oldest, None)

    def _discard(self, kwargs: Mapping[str, Any], run_id: UUID, above: UUID | None, error: BaseException) -> None:
        """Forget a call that is not sent, since it was refused or its caller was interrupted, and its batch."""
        is_refused = isinstance(error, BudgetExceeded)
        if is_refused:
            self._remember(run_id)
        not_sent = [run_id]
        if kwargs.get("batch_size", 1) != 1:
            not_sent = [*self._batches.end(kwargs, above, error), run_id]
        for each in not_sent:
            self._enforcer.release(each)
        try:
            if is_refused:
                _ignore_dropped_starts()
            self._on_refused(not_sent, repr(error))
        except Exception:
            self._on_failure("budget_gate", run_id)


class _Decision:
    """The block in which a gate decides on a call."""

    # A class: a generator as context manager would cost as much as the decision.
    __slots__ = ("_above", "_gate", "_kwargs", "_run_id")

    def __init__(self, gate: BudgetGate, kwargs: Mapping[str, Any], run_id: UUID, parent_run_id: UUID | None) -> None:
        self._gate = gate
        self._kwargs = kwargs
        self._run_id = run_id
        self._above = parent_run_id

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        return self._gate.decided(error, self._kwargs, self._run_id, self._above)


def _planned_call(
    serialized: Mapping[str, Any] | None,
    kwargs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    messages: Sequence[BaseMessage],
    prompts: Sequence[str],
) -> PlannedCall:
    params = kwargs.get("invocation_params")
    params = params if isinstance(params, dict) else _NO_METADATA
    model = request_model(metadata, params)
    return PlannedCall(served_model(metadata, serialized), model, params, messages, prompts)


def _ignore_dropped_starts() -> None:
    """Have Python not warn of the coroutines that LangChain's async manager drops when a handler stops a call.

    It makes the starts of all handlers first and awaits them one by one, so those behind the gate are never awaited.
    """
    if asyncio._get_running_loop() is not None:
        warnings.filterwarnings(
            "ignore", message="coroutine 'ahandle_event' was never awaited", category=RuntimeWarning
        )
