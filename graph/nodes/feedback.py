"""The feedback node: scores the answer from the knowledge base."""

from __future__ import annotations

import logging
from typing import Literal, cast

from langchain_core.messages import HumanMessage, SystemMessage
from langgraph.types import Command
from pydantic import BaseModel, Field

from graph import models
from graph.conversation import question
from graph.prompts import prompt
from graph.routing import after_feedback
from graph.state import State

__all__ = ["feedback"]

_logger = logging.getLogger(__name__)


class Grade(BaseModel):
    """답변 평가."""

    score: float = Field(description="질문에 대한 답으로서의 품질. 0은 쓸모없음, 1은 완전함.")


async def feedback(state: State) -> Command[Literal["aggregator", "web_search"]]:
    """Score the answer from 0 to 1. A web search supplements a poor answer. Without a score, the answer is used."""
    result = state["results"]["waste_rag"]
    try:
        score = 0.0 if result["failed"] else await _score(state, result["text"])
    except Exception as error:
        _logger.warning("The answer from the knowledge base has no score: %s.", type(error).__name__)
        return Command(goto="aggregator")
    update: State = {"scores": {"rag_quality": score}}
    return Command(goto=after_feedback(update), update=update)


async def _score(state: State, answer: str) -> float:
    judge = models.chat("feedback").with_structured_output(Grade)
    pair = f"질문: {question(state)}\n\n답변: {answer}"
    grade = cast("Grade", await judge.ainvoke([SystemMessage(prompt("feedback")), HumanMessage(pair)]))
    return min(max(grade.score, 0.0), 1.0)
