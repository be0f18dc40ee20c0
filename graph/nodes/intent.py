"""The intent node: says what the user wants."""

from __future__ import annotations

from typing import cast

from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from graph import models
from graph.prompts import prompt
from graph.state import Intent, State

__all__ = ["intent"]


class Classification(BaseModel):
    """사용자 메시지의 의도 분류 결과."""

    intent: Intent = Field(description="메시지의 의도 하나.")


async def intent(state: State) -> State:
    """Classify the message into one of the intents."""
    classify = models.openai().with_structured_output(Classification)
    messages = [SystemMessage(prompt("intent")), HumanMessage(state["message"])]
    classification = cast("Classification", await classify.ainvoke(messages))
    return {"intent": classification.intent}
