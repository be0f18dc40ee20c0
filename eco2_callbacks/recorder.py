"""Recorder: from an open run and the way it ended to its record."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from eco2_callbacks.attribution import UNCLASSIFIED, identifier, state_values, text_of
from eco2_callbacks.feedback import Feedback, read_scores
from eco2_callbacks.metering import Meter
from eco2_callbacks.outcomes import Outcome
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.runs import OpenCall, OpenNode, OpenRequest, OpenRun, OpenTool

__all__ = ["Recorder", "where"]

_NOTHING: Mapping[str, Any] = {}


class Recorder:
    """Makes the one record of each run that ends.

    Args:
        meter: Measures model calls.
        agent_name, feedback, state_labels, clock: As the handler's.
    """

    def __init__(
        self,
        *,
        meter: Meter,
        agent_name: str,
        feedback: Feedback,
        state_labels: tuple[str, ...],
        clock: Callable[[], float],
    ) -> None:
        self._meter = meter
        self._agent_name = agent_name
        self._feedback = feedback
        self._state_labels = state_labels
        self._clock = clock

    def record(self, run: OpenRun, outcome: Outcome, output: Any) -> Record | None:
        """Return the record of a run that just ended, and add it up on the node and request around; None for a link."""
        if isinstance(run, OpenCall):
            return self._call_of(run, outcome, output)
        if isinstance(run, OpenNode):
            return self._node_of(run, outcome, output)
        if isinstance(run, OpenTool):
            return self._tool_of(run, outcome)
        if isinstance(run, OpenRequest):
            return self._request_of(run, outcome)
        return None

    def _call_of(self, call: OpenCall, outcome: Outcome, output: Any) -> LLMCall:
        seconds = self._clock() - call.started
        record = self._meter.measure(call, output, outcome, duration_seconds=seconds, agent_name=self._agent_name)
        node = call.node
        while node is not None:
            node.account.add(record)
            node = node.node
        if call.request is not None:
            call.request.account.add(record)
        return record

    def _node_of(self, node: OpenNode, outcome: Outcome, output: Any) -> NodeRun:
        seconds = self._clock() - node.started
        request = node.request
        if request is not None:
            if outcome.status == "interrupted":
                request.interrupted = True
            if output is not None:
                request.state.update(state_values(output, self._state_labels))
        paths = self._feedback.get(node.name)
        _, intent, tenant_id = where(node, node.metadata)
        account = node.account
        return NodeRun(
            run_id=node.run_id,
            trace_id=node.top,
            node=node.name,
            step=node.step,
            parallel=len(node.tasks) > 1,
            intent=intent,
            tenant_id=tenant_id,
            status=outcome.status,
            error_type=outcome.error_type,
            started_at=node.started_at,
            duration_seconds=seconds,
            usage=account.usage(),
            cost=account.cost(),
            estimated=account.estimated,
            unpriced_calls=account.unpriced_calls,
            feedback=read_scores(paths, output) if paths else _NOTHING,
            **node.span,
        )

    def _tool_of(self, tool: OpenTool, outcome: Outcome) -> ToolCall | RetrieverCall:
        seconds = self._clock() - tool.started
        common: dict[str, Any] = {
            "run_id": tool.run_id,
            "trace_id": tool.top,
            "node": tool.node_name,
            "agent_name": self._agent_name,
            "intent": tool.intent,
            "tenant_id": tool.tenant_id,
            "status": outcome.status,
            "error_type": outcome.error_type,
            "started_at": tool.started_at,
            "duration_seconds": seconds,
            **tool.span,
        }
        if tool.is_retriever:
            return RetrieverCall(retriever=tool.name, **common)
        if tool.request is not None:
            tool.request.account.tool_calls += 1
        return ToolCall(tool_name=tool.name, **common)

    def _request_of(self, request: OpenRequest, outcome: Outcome) -> GraphRun:
        seconds = self._clock() - request.started
        request.close_session()
        request.request = None  # it held itself: without the cycle it goes at once
        status = "interrupted" if request.interrupted and outcome.status == "success" else outcome.status
        account, metadata = request.account, request.metadata
        session = metadata.get("session_id", metadata.get("thread_id"))
        return GraphRun(
            trace_id=request.run_id,
            agent_name=self._agent_name,
            intent=request.state.get("intent", request.intent),
            tenant_id=request.state.get("tenant_id", request.tenant_id),
            user_id=identifier(metadata.get("user_id")),
            session_id=identifier(session),
            job_id=identifier(metadata.get("job_id")),
            status=status,
            error_type=outcome.error_type,
            started_at=request.started_at,
            duration_seconds=seconds,
            provider=account.provider,
            model=account.model,
            llm_calls=account.llm_calls,
            tool_calls=account.tool_calls,
            usage=account.usage(),
            cost=account.cost(),
            estimated=account.estimated,
            unpriced_calls=account.unpriced_calls,
            tags=request.tags,
            metadata=metadata,
            **request.span,
        )


def where(parent: OpenRun | None, metadata: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return node, intent and tenant: what a node put into the state comes before what the config says."""
    state = _NOTHING if parent is None or parent.request is None else parent.request.state
    intent = state.get("intent") or text_of(metadata.get("intent")) or UNCLASSIFIED
    tenant_id = state.get("tenant_id") or text_of(metadata.get("tenant_id"))
    return text_of(metadata.get("langgraph_node")), intent, tenant_id
