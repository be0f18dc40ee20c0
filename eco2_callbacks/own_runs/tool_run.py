"""ToolRun: a block around a tool that is no LangChain tool."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar
from uuid import UUID

from eco2_callbacks.own_runs.block import OwnRun, OwnRunHost
from eco2_callbacks.runs import SUCCESS, Outcome, outcome_of

__all__ = ["ToolRun"]

_T = TypeVar("_T")


class ToolRun(OwnRun):
    """One run of a tool that is no LangChain tool. ``Eco2CallbackHandler.tool`` makes it."""

    _callback = "tool"
    _run_type = "tool"

    def __init__(
        self,
        host: OwnRunHost,
        *,
        name: str,
        inputs: Mapping[str, Any] | str,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> None:
        super().__init__(host, name=name, metadata=metadata, tags=tags)
        self._given = inputs
        self._returned: Any = None

    def returned(self, output: _T) -> _T:
        """Take what the tool returned, for its run on LangSmith, and return it."""
        self._returned = output
        return output

    def _start(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any]) -> None:
        self._returned = None
        given = self._given if isinstance(self._given, str) else repr(dict(self._given)) if self._given else ""
        self._host.tracker.start_tool(run_id, parent_run_id, metadata, self._name, input_text=given, is_retriever=False)

    def _end(self, run_id: UUID, exc: BaseException | None) -> Outcome:
        outcome = SUCCESS if exc is None else outcome_of(exc)
        self._host.tracker.end(run_id, outcome)
        return outcome

    def _inputs(self) -> Mapping[str, Any]:
        return {"input": self._given} if isinstance(self._given, str) else dict(self._given)

    def _outputs(self) -> Mapping[str, Any]:
        return {} if self._returned is None else {"output": self._returned}
