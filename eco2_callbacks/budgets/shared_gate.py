"""SharedBudgetGate: the gate of budgets that lie in a store, which must not stop an event loop."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage

from eco2_callbacks.budgets.gate import BudgetGate

__all__ = ["SharedBudgetGate"]

_STARTS = {
    "on_chat_model_start": "_on_chat_model_start_off_loop",
    "on_llm_start": "_on_llm_start_off_loop",
}


class SharedBudgetGate(BudgetGate):
    """A gate whose budgets lie in a store: on an event loop a call waits for the store without stopping the loop.

    LangChain awaits a handler's method only if it is a coroutine function, and then only in its async managers. So
    this gate gives out a coroutine function on a loop, and a plain one elsewhere. A synchronous call on a loop's thread
    gets the coroutine function too, and LangChain drops what it raises. There the handler decides, which comes next.
    """

    def __getattribute__(self, name: str) -> Any:
        if name in _STARTS and asyncio._get_running_loop() is not None:
            name = _STARTS[name]
        return super().__getattribute__(name)

    async def _on_chat_model_start_off_loop(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        sent = messages[0] if messages else ()
        await self.check_off_loop(serialized, kwargs, run_id, parent_run_id, metadata, messages=sent)

    async def _on_llm_start_off_loop(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        await self.check_off_loop(serialized, kwargs, run_id, parent_run_id, metadata, prompts=prompts)
