"""What a node's model is shown: the node's prompt, what was said before, and this turn."""

from __future__ import annotations

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from graph.prompts import prompt
from graph.state import State

__all__ = ["conversation", "question"]

_PICTURE_ALONE = "사진 속 물건을 어떻게 버리면 되나요?"


def conversation(name: str, state: State, *, context: str = "") -> list[BaseMessage]:
    """Return the messages for a model.

    Args:
        name: The prompt's.
        state: The turn.
        context: What the model answers from.
    """
    parts = [prompt(name)]
    if summary := state.get("summary"):
        parts.append(f"# 지금까지의 대화 요약\n\n{summary}\n")
    if context:
        parts.append(f"# 자료\n\n{context}\n")
    return [SystemMessage("\n".join(parts)), *state.get("messages", []), HumanMessage(question(state))]


def question(state: State) -> str:
    """Return this turn's message, with what is on its picture."""
    text = state.get("message", "") or _PICTURE_ALONE
    if seen := state.get("vision"):
        text += f"\n\n(첨부 사진: {seen['item']}, 재질 {seen['material']}, 상태 {seen['condition']})"
    return text
