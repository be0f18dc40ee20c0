"""The answer node: writes the answer to the user."""

from __future__ import annotations

from langchain_core.messages import AIMessage, HumanMessage

from graph import models
from graph.conversation import conversation, question
from graph.errors import EmptyAnswerError
from graph.state import State

__all__ = ["answer"]


async def answer(state: State) -> State:
    """Stream the answer, based on the branches' results, and add the turn to the conversation.

    Raises:
        EmptyAnswerError: If the model wrote nothing. The turn stays out of the conversation.
    """
    messages = conversation("answer", state, context=state["context"])
    text = "".join([chunk.text async for chunk in models.chat("answer").astream(messages)])
    if not text.strip():
        raise EmptyAnswerError("The model ended without a text; ask again, or in other words.")
    return {"answer": text, "messages": [HumanMessage(question(state)), AIMessage(text)]}
