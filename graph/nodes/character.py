"""The character node: looks up the character that represents a kind of waste."""

from __future__ import annotations

from typing import cast

from pydantic import BaseModel, Field

from graph import models
from graph.clients import Characters
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State

__all__ = ["character"]


class CharacterQuery(BaseModel):
    """사용자가 바라는 캐릭터."""

    item: str = Field(description="캐릭터가 대표하는 쓰레기의 이름. 말하지 않았으면 빈 문자열.")


@branch("캐릭터 정보")
async def character(state: State) -> State:
    """Return the character for the waste that the user names or shows; without a match, all characters."""
    model = models.chat("character").with_structured_output(CharacterQuery)
    query = cast("CharacterQuery", await model.ainvoke(conversation("character", state)))
    service = Characters.from_env()
    match = await service.character(query.item) if query.item else None
    characters = (match,) if match else await service.all()
    intro = "뽑힌 캐릭터입니다." if match else "맞는 캐릭터가 없습니다. 만날 수 있는 캐릭터들입니다."
    lines = [f"{one.name} ({one.material}): {one.dialog}" for one in characters]
    return found("character", "\n".join([intro, *lines]), ["이코에코 캐릭터 도감"])
