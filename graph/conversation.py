"""Builds the messages for a node's model: its prompt, the history and the current turn."""

from __future__ import annotations

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from graph.prompts import prompt
from graph.state import State

__all__ = ["conversation", "question"]

_QUESTION_FOR_IMAGE_ONLY = "사진 속 물건을 어떻게 버리면 되나요?"


def conversation(name: str, state: State, *, context: str = "") -> list[BaseMessage]:
    """Return the messages for a model.

    Args:
        name: The prompt's name.
        state: The current state.
        context: Source material for the answer.
    """
    parts = [prompt(name)]
    if summary := state.get("summary"):
        parts.append(f"# 지금까지의 대화 요약\n\n{summary}\n")
    if context:
        parts.append(f"# 자료\n\n{context}\n")
    return [SystemMessage("\n".join(parts)), *state.get("messages", []), HumanMessage(question(state))]


def question(state: State) -> str:
    """Return this turn's message, with a description of its image."""
    text = state.get("message", "") or _QUESTION_FOR_IMAGE_ONLY
    if item := state.get("vision"):
        text += f"\n\n(첨부 사진: {item['item']}, 재질 {item['material']}, 상태 {item['condition']})"
    return text
