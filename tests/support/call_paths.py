"""Every way in which the graph calls a model, with the official models and the stand-in's answers."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from pydantic import BaseModel, Field

import tests.support.httpx_for_gemini  # noqa: F401 - for its effect
from tests.support.scripted_answer import picture
from tests.support.scripts import Answer, Line, Script, Source

__all__ = ["LONG", "PATHS", "SCRIPT"]

Path: TypeAlias = Callable[[RunnableConfig], Awaitable[Any]]

LONG = "품목마다 배출 요일과 방법이 다르니 규정을 차례로 확인합니다. " * 120
"""A prompt of more than 1,024 tokens. The providers cache prompts from that length."""

_TEXT = "투명 페트병은 비우고, 헹구고, 라벨을 뗀 뒤 전용 수거함에 넣습니다."
_WEATHER = Answer(text="내일 서울은 맑습니다.", calls=(("forecast", {"place": "서울", "days": 1}),))
_FOUND = Answer(
    text="강남구는 무인 회수기를 주민센터에서 운영합니다. 라벨을 뗀 투명 페트병만 받습니다.",
    searches=("강남역 페트병 수거함", "강남구 무인 회수기"),
    sources=(
        Source("강남구청", "https://www.gangnam.go.kr/recycle", "무인 회수기를 주민센터에서 운영합니다."),
        Source("환경부", "https://www.me.go.kr/recycle", "라벨을 뗀 투명 페트병만 받습니다."),
    ),
)
SCRIPT: Script = (
    Line(_WEATHER, node="", contains="날씨"),
    Line(_FOUND, node="", contains="강남역"),
    Line(Answer(fields={"item": "페트병", "material": "PET", "clean": False}), node="", contains="사진"),
    Line(Answer(text="포스터입니다.", picture=True), node="", contains="포스터"),
    Line(Answer(text=_TEXT), node=""),
)


class WasteItem(BaseModel):
    """사진 속 물건."""

    item: str = Field(description="물건의 이름.")
    material: str = Field(description="재질.")
    clean: bool = Field(description="깨끗한지.")


@tool
def forecast(place: str, days: int) -> str:
    """날씨를 알려 줍니다."""
    return f"{place}, {days}일 뒤: 맑음"


def _openai(**options: Any) -> BaseChatModel:
    return ChatOpenAI(model="gpt-5.2", max_retries=0, stream_usage=True, **options)


def _google(model: str = "gemini-3-flash-preview", **options: Any) -> BaseChatModel:
    return ChatGoogleGenerativeAI(model=model, max_retries=1, **options)


async def _plain(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return (await make().ainvoke("페트병 어떻게 버려?", config)).text


async def _streamed(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return await _joined(make(), [HumanMessage("페트병 어떻게 버려?")], config)


async def _cached(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    model = make()
    for question in ("페트병은?", "캔은?"):
        await model.ainvoke([SystemMessage(LONG), HumanMessage(question)], config)


async def _functions(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return await _tool_loop(make(), config, streamed=False)


async def _functions_streamed(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return await _tool_loop(make(), config, streamed=True)


async def _tool_loop(model: BaseChatModel, config: RunnableConfig, *, streamed: bool) -> str:
    bound: Any = model.bind_tools([forecast])
    messages: list[BaseMessage] = [HumanMessage("내일 서울 날씨 어때?")]
    for _ in range(2):
        if streamed:
            answer: AIMessage = await _whole(bound, messages, config)
        else:
            answer = await bound.ainvoke(messages, config)
        messages.append(answer)
        for call in answer.tool_calls:
            assert call["args"] == {"place": "서울", "days": 1}
            messages.append(ToolMessage(forecast.invoke(call["args"]), tool_call_id=call["id"]))
    return messages[-1].text


async def _structured(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    model = make().with_structured_output(WasteItem, method="json_schema")
    return await model.ainvoke("사진 속 물건: 라벨이 붙은 페트병", config)


async def _search(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return (await _searching(make()).ainvoke("강남역 근처 페트병 수거함", config)).text


async def _search_streamed(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    return await _joined(_searching(make()), [HumanMessage("강남역 근처 페트병 수거함")], config)


def _searching(model: BaseChatModel) -> Any:
    return model.bind_tools([{"type": "web_search"} if isinstance(model, ChatOpenAI) else {"google_search": {}}])


async def _vision(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    url = f"data:image/png;base64,{base64.b64encode(picture()).decode()}"
    content: list[str | dict[Any, Any]] = [
        {"type": "text", "text": "이 사진에 있는 건 뭐야?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    model = make().with_structured_output(WasteItem, method="json_schema")
    return await model.ainvoke([HumanMessage(content)], config)


async def _image(make: Callable[[], BaseChatModel], config: RunnableConfig) -> Any:
    model: Any = make()
    if isinstance(model, ChatOpenAI):
        model = model.bind_tools([{"type": "image_generation"}])
    return _pictures(await model.ainvoke("분리배출 포스터 그려줘", config))


def _pictures(message: AIMessage) -> int:
    blocks = [block for block in message.content_blocks if block["type"] in {"image", "server_tool_result"}]
    return len(blocks)


async def _joined(model: Any, messages: list[BaseMessage], config: RunnableConfig) -> str:
    return (await _whole(model, messages, config)).text


async def _whole(model: Any, messages: list[BaseMessage], config: RunnableConfig) -> AIMessage:
    whole: AIMessageChunk | None = None
    async for chunk in model.astream(messages, config):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return whole


def _path(make: Callable[[], BaseChatModel], call: Callable[..., Awaitable[Any]]) -> Path:
    return lambda config: call(make, config)


def _drawing() -> BaseChatModel:
    return _google("gemini-3-pro-image-preview", response_modalities=["TEXT", "IMAGE"])


def _responses() -> BaseChatModel:
    return _openai(use_responses_api=True)


def _thinking() -> BaseChatModel:
    return _openai(reasoning_effort="low")


PATHS: Mapping[str, Path] = {
    "openai_plain": _path(_openai, _plain),
    "openai_streamed": _path(_openai, _streamed),
    "openai_cached": _path(_openai, _cached),
    "openai_reasoning": _path(_thinking, _plain),
    "openai_functions": _path(_openai, _functions),
    "openai_functions_streamed": _path(_openai, _functions_streamed),
    "openai_structured": _path(_openai, _structured),
    "openai_vision": _path(_openai, _vision),
    "openai_responses": _path(_responses, _plain),
    "openai_responses_functions_streamed": _path(_responses, _functions_streamed),
    "openai_search": _path(_openai, _search),
    "openai_search_streamed": _path(_openai, _search_streamed),
    "openai_image": _path(_openai, _image),
    "google_plain": _path(_google, _plain),
    "google_streamed": _path(_google, _streamed),
    "google_cached": _path(_google, _cached),
    "google_functions": _path(_google, _functions),
    "google_functions_streamed": _path(_google, _functions_streamed),
    "google_structured": _path(_google, _structured),
    "google_search": _path(_google, _search),
    "google_search_streamed": _path(_google, _search_streamed),
    "google_vision": _path(_google, _vision),
    "google_image": _path(_drawing, _image),
}
