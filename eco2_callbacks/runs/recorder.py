"""Recorder: makes the one record of each run that ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.runs.attribution import identifier, labels_of_run
from eco2_callbacks.runs.feedback import Feedback, read_scores
from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenLLMCall, OpenNodeRun, OpenRun, OpenToolCall

__all__ = ["Recorder"]

_NO_SCORES: Mapping[str, float] = {}


class Recorder:
    """Makes records, and adds each model call to the nodes and the request around it.

    A record is made from the ended run alone: ``outcome``, ``output`` and ``duration_seconds`` are set on it. So it can
    be made later than the callback, as long as a request's runs are recorded in the order in which they ended.

    Args:
        bill: Returns the record of a model call.
        agent_name: As the handler's.
        feedback: As the handler's.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
    """

    def __init__(
        self,
        *,
        bill: Callable[[OpenLLMCall], LLMCall],
        agent_name: str,
        feedback: Feedback,
        on_failure: Callable[[str, UUID], None],
    ) -> None:
        self._bill = bill
        self._on_failure = on_failure
        self._agent_name = agent_name
        self._feedback = feedback

    def record(self, run: OpenRun) -> Record | None:
        """Return the record of an ended run; None for a link between runs."""
        if isinstance(run, OpenLLMCall):
            return self._record_call(run)
        if isinstance(run, OpenNodeRun):
            return self._record_node(run)
        if isinstance(run, OpenToolCall):
            return self._record_tool(run)
        if isinstance(run, OpenGraphRun):
            return self._record_request(run)
        return None

    def _record_call(self, call: OpenLLMCall) -> LLMCall:
        record = self._bill(call)
        node = call.node
        while node is not None:
            node.totals.add_call(record)
            node = node.node
        if call.graph_run is not None:
            call.graph_run.totals.add_call(record)
        return record

    def _record_node(self, node: OpenNodeRun) -> NodeRun:
        outcome = node.outcome
        paths = self._feedback.get(node.name)
        _, intent, tenant_id = labels_of_run(node.context, node.metadata)
        totals = node.totals
        return NodeRun(
            run_id=node.run_id,
            trace_id=node.trace_id,
            node=node.name,
            step=node.step,
            parallel=node.is_parallel,
            intent=intent,
            tenant_id=tenant_id,
            status=outcome.status,
            error_type=outcome.error_type,
            started_at=node.started_at,
            duration_seconds=node.duration_seconds,
            usage=totals.usage(),
            cost=totals.cost(),
            estimated=totals.estimated,
            unpriced_calls=totals.unpriced_calls,
            feedback=read_scores(paths, node.output) if paths else _NO_SCORES,
            **node.span,
        )

    def _record_tool(self, tool: OpenToolCall) -> ToolCall | RetrieverCall:
        common: dict[str, Any] = {
            "run_id": tool.run_id,
            "trace_id": tool.trace_id,
            "node": tool.node_name,
            "agent_name": self._agent_name,
            "intent": tool.intent,
            "tenant_id": tool.tenant_id,
            "status": tool.outcome.status,
            "error_type": tool.outcome.error_type,
            "started_at": tool.started_at,
            "duration_seconds": tool.duration_seconds,
            **tool.span,
        }
        if tool.is_retriever:
            return RetrieverCall(retriever=tool.name, **common)
        # A tool that another tool calls in the same node is not a second tool call of the agent.
        is_inner = tool.tool is not None and tool.tool.node is tool.node
        if tool.graph_run is not None and not is_inner:
            tool.graph_run.totals.tool_calls += 1
        return ToolCall(tool_name=tool.name, **common)

    def _record_request(self, run: OpenGraphRun) -> GraphRun:
        status = run.outcome.status
        totals, metadata, context = run.totals, run.metadata, run.own_context
        run.graph_run = None  # it refers to itself: without the cycle it is freed at once
        return GraphRun(
            trace_id=run.run_id,
            agent_name=self._agent_name,
            intent=context.current_intent(),
            tenant_id=context.current_tenant_id(),
            user_id=self._identifier(run, metadata.get("user_id")),
            session_id=self._identifier(run, metadata.get("session_id", metadata.get("thread_id"))),
            job_id=self._identifier(run, metadata.get("job_id")),
            status="interrupted" if run.interrupted and status == "success" else status,
            error_type=run.outcome.error_type,
            resumed=run.resumed,
            started_at=run.started_at,
            duration_seconds=run.duration_seconds,
            provider=totals.provider,
            model=totals.model,
            llm_calls=totals.llm_calls,
            tool_calls=totals.tool_calls,
            usage=totals.usage(),
            cost=totals.cost(),
            estimated=totals.estimated,
            unpriced_calls=totals.unpriced_calls,
            tags=run.tags,
            metadata=metadata,
            **run.span,
        )

    def _identifier(self, run: OpenGraphRun, value: object) -> str | None:
        """Return an identifier as text; None, counted, where the application's object cannot be shown."""
        try:
            return identifier(value)
        except Exception:
            self._on_failure("emit", run.run_id)
            return None
