"""Tool calls and retrievers on a real graph."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, ToolCall
from eco2_callbacks.records import RetrieverCall
from tests.support.record_sink import Records
from tests.support.small_graphs import State, graph_of, sample


async def test_tools_and_retrievers_are_recorded_with_their_node(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """Tool calls and retrievers carry node and status, and tool calls count into the request."""

    @tool
    def weather(city: str) -> str:
        """Return the weather."""
        if city == "nowhere":
            raise LookupError(city)
        return "rain"

    class Rules(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("rinse it")]

    async def waste_rag(state: State) -> State:
        await Rules().ainvoke("bottle")
        await weather.ainvoke({"city": "Seoul"})
        with pytest.raises(LookupError):
            await weather.ainvoke({"city": "nowhere"})
        return {}

    await graph_of(waste_rag).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    (retrieval,) = records.of(RetrieverCall)
    assert (retrieval.retriever, retrieval.node, retrieval.status) == ("Rules", "waste_rag", "success")
    tools = [(call.tool_name, call.node, call.status, call.error_type) for call in records.of(ToolCall)]
    assert tools == [
        ("weather", "waste_rag", "success", None),
        ("weather", "waste_rag", "error", "LookupError"),
    ]
    assert records.request.tool_calls == 2
    assert sample(registry, "tool_calls_total", tool_name="weather", agent_name="eco2", status="error") == 1
    assert sample(registry, "retrieval_duration_seconds_count", retriever="Rules", node="waste_rag") == 1
