"""The waste_rag node: answers from the disposal rules."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.knowledge import DisposalRules
from graph.results import branch, found, missing
from graph.state import State

__all__ = ["waste_rag"]


@branch("분리배출 지침")
async def waste_rag(state: State) -> State:
    """Retrieve the rules that match the question, and answer from them alone."""
    item = state.get("vision")
    query = f"{item['item'] if item else ''} {state.get('message', '')}"
    passages = await DisposalRules(embeddings=models.embeddings()).ainvoke(query)
    if not passages:
        return missing("waste_rag", "분리배출 지침에서 맞는 항목을 찾지 못했습니다.")
    context = "\n".join(f"- {passage.page_content}" for passage in passages)
    answer = await models.chat("waste_rag").ainvoke(conversation("waste_rag", state, context=context))
    return found("waste_rag", answer.text, [passage.metadata["source"] for passage in passages])
