"""The intent node: says what the user wants."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, Field

from graph import models
from graph.conversation import conversation
from graph.state import Intent, Result, State

__all__ = ["intent"]


class Classification(BaseModel):
    """사용자 메시지의 의도 분류 결과."""

    intent: Intent = Field(description="메시지의 의도 하나.")
    weather: bool = Field(description="날씨를 묻거나 날씨에 따라 답이 달라지면 참.")
    place: str = Field(description="메시지가 말하는 장소나 지역. 없으면 빈 문자열.")


async def intent(state: State) -> State:
    """Classify the message into one of the intents, and leave behind what the turn before held."""
    # What the picture showed was read in this turn, or is the turn's before.
    turn: State = {**state, "vision": state.get("vision") if state.get("image") else None}
    classify = models.chat("intent").with_structured_output(Classification)
    read = cast("Classification", await classify.ainvoke(conversation("intent", turn)))
    return {
        "intent": read.intent,
        "weather": read.weather,
        "place": read.place,
        "vision": turn["vision"],
        "image": "",
        "results": cast("dict[str, Result]", None),
        "scores": {},
        "images": [],
        "context": "",
        "answer": "",
    }
