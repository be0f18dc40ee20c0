"""Recorder: makes the one record of each run that ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.runs.attribution import labels_of_run
from eco2_callbacks.runs.feedback import Feedback, read_scores
from eco2_callbacks.runs.identities import NOTHING_SHARED
from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenNodeRun, OpenRun, OpenToolCall
from eco2_callbacks.runs.request_context import RequestContext
from eco2_callbacks.totals import figures_of, totals_of

__all__ = ["Recorder"]


class Recorder:
    """Makes records, and adds each model call to the nodes and the request around it.

    A record is made from the ended run alone: ``outcome``, ``duration_seconds`` and what ``capture`` notes are set on
    it. So it can be made later than the callback, as long as a request's runs are recorded in the order in which they
    ended.

    Args:
        bill: Returns the record of a model call.
        feedback: As the handler's.
    """

    def __init__(
        self,
        *,
        bill: Callable[[OpenLLMCall], LLMCall],
        feedback: Feedback,
    ) -> None:
        self._bill = bill
        self._feedback = feedback

    def capture(self, run: OpenRun) -> None:
        """Note on a run that ends what later events can change: labels of its state, runs beside it, its output."""
        context: RequestContext | None
        if isinstance(run, OpenNodeRun):
            context = run.context
            _, run.intent, run.tenant_id = labels_of_run(run.state, context, run.metadata, run.identity)
            run.shared = NOTHING_SHARED if context is None else context.shared
            run.parallel = run.is_parallel
            if (paths := self._feedback.get(run.name)) is not None:
                run.scores = read_scores(paths, run.output)
            run.output = None
        elif isinstance(run, OpenGraphRun):
            context = run.own_context
            run.intent, run.tenant_id = context.current_intent(), context.current_tenant_id()
            run.shared = context.shared
            run.output = None

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
        figures, node, graph_run = figures_of(record), call.node, call.graph_run
        while node is not None:
            node.calls.append(figures)
            node = node.node
        if graph_run is not None:
            graph_run.calls.append(figures)
            graph_run.last_call = record.provider, record.model, record.request_model
        return record

    def _record_node(self, node: OpenNodeRun) -> NodeRun:
        outcome = node.outcome
        totals, place = totals_of(node.calls), node.place
        return NodeRun(
            run_id=node.run_id,
            trace_id=node.trace_id,
            enclosing_run_id=node.enclosing_run_id,
            node=node.name,
            step=node.step,
            parallel=node.parallel,
            intent=node.intent,
            agent_name=place.agent_name,
            path=place.path,
            **node.identity.fields(node.tenant_id, node.shared),
            status=outcome.status,
            error_type=outcome.error_type,
            started_at=node.started_at,
            duration_seconds=node.duration_seconds,
            usage=totals.usage,
            cost=totals.cost,
            estimated=totals.estimated,
            unpriced_calls=totals.unpriced_calls,
            feedback=node.scores,
            **node.span,
        )

    def _record_tool(self, tool: OpenToolCall) -> ToolCall | RetrieverCall:
        common: dict[str, Any] = {
            "run_id": tool.run_id,
            "trace_id": tool.trace_id,
            "enclosing_run_id": tool.enclosing_run_id,
            "node": tool.node_name,
            "agent_name": tool.place.agent_name,
            "path": tool.place.path,
            "intent": tool.intent,
            **tool.identity.fields(tool.tenant_id),
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
            tool.graph_run.tool_calls += 1
        return ToolCall(tool_name=tool.name, **common)

    def _record_request(self, run: OpenGraphRun) -> GraphRun:
        status = run.outcome.status
        totals, metadata = totals_of(run.calls), run.metadata
        provider, model, request_model = run.last_call
        run.graph_run = None  # it refers to itself: without the cycle it is freed at once
        return GraphRun(
            trace_id=run.run_id,
            agent_name=run.place.agent_name,
            path=run.place.path,
            intent=run.intent,
            **run.identity.fields(run.tenant_id, run.shared),
            status="interrupted" if run.interrupted and status == "success" else status,
            error_type=run.outcome.error_type,
            resumed=run.resumed,
            started_at=run.started_at,
            duration_seconds=run.duration_seconds,
            provider=provider,
            model=model,
            request_model=request_model,
            llm_calls=totals.llm_calls,
            tool_calls=run.tool_calls,
            usage=totals.usage,
            cost=totals.cost,
            estimated=totals.estimated,
            unpriced_calls=totals.unpriced_calls,
            tags=run.tags,
            metadata=metadata,
            **run.span,
        )
