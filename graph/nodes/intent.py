"""The intent node: classifies the user's message."""

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
    """Classify the message into one of the intents, and clear the results of the previous turn."""
    # Without an image in this turn, ``vision`` is left over from an earlier turn.
    turn: State = {**state, "vision": state.get("vision") if state.get("image") else None}
    model = models.chat("intent").with_structured_output(Classification)
    classification = cast("Classification", await model.ainvoke(conversation("intent", turn)))
    return {
        "intent": classification.intent,
        "weather": classification.weather,
        "place": classification.place,
        "vision": turn["vision"],
        "image": "",
        "results": cast("dict[str, Result]", None),
        "scores": {},
        "images": [],
        "context": "",
        "answer": "",
    }
