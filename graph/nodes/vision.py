"""The vision node: describes the waste on the user's image."""

from __future__ import annotations

from typing import cast

from langchain_core.messages import HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from graph import models
from graph.prompts import prompt
from graph.state import State

__all__ = ["vision"]


class ImageDescription(BaseModel):
    """사진 속 쓰레기."""

    item: str = Field(description="버리려는 물건의 이름. 예: 투명 페트병")
    material: str = Field(description="주된 재질. 예: 플라스틱(PET)")
    condition: str = Field(description="오염, 파손, 라벨 등 배출에 중요한 상태. 예: 라벨이 붙어 있고 내용물이 남음")


async def vision(state: State) -> State:
    """Read item, material and condition from the image."""
    model = models.chat("vision").with_structured_output(ImageDescription)
    image = HumanMessage(
        [
            {"type": "text", "text": state.get("message", "") or "이 사진 속 쓰레기를 알려 주세요."},
            {"type": "image_url", "image_url": {"url": state["image"]}},
        ]
    )
    messages = [SystemMessage(prompt("vision")), image]
    found = cast("ImageDescription", await model.ainvoke(messages))
    return {"vision": {"item": found.item, "material": found.material, "condition": found.condition}}
