"""Scripted models and services that replace the real ones."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool
from pydantic import Field

from graph.clients.bulk_waste import Fee
from graph.clients.character import Character
from graph.clients.kakao import Place
from graph.clients.keco import CollectionPoint
from graph.clients.kma import Forecast, Hour
from graph.clients.recyclable_price import Price
from tests.support.fake_model import FakeModel

__all__ = ["PIXEL", "FakeServices", "Script", "ScriptedModel", "fields"]

PIXEL = "iVBORw0KGgo="


def fields(intent: str, *, weather: bool = False, place: str = "") -> dict[str, Any]:
    """Return a classifier's structured output."""
    return {"intent": intent, "weather": weather, "place": place}


@dataclass
class Script:
    """The models' answers, and the requests they received.

    Attributes:
        fields: Structured outputs by node.
        calls: Function calls by node, made in this order before the answer.
        texts: Answers by node; the default is ``<node>의 답``.
        errors: Errors by node, raised by every call whose last message contains the text, which may be ``""``.
        barrier: Nodes that wait for each other at their first call.
        requests: The messages of every call, by node.
        arrived: Nodes that have come to the barrier.
    """

    fields: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    calls: dict[str, list[tuple[str, dict[str, Any]]]] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    errors: dict[str, tuple[str, Exception]] = field(default_factory=dict)
    barrier: set[str] = field(default_factory=set)
    requests: dict[str, list[list[BaseMessage]]] = field(default_factory=dict)
    arrived: set[str] = field(default_factory=set)
    _all_arrived: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, node: str) -> None:
        if node in self.barrier:
            self.arrived.add(node)
            if self.arrived == self.barrier:
                self._all_arrived.set()
            await asyncio.wait_for(self._all_arrived.wait(), timeout=300)

    def answer(self, node: str, messages: list[BaseMessage], tools: list[str]) -> dict[str, Any]:
        """Return content and tool calls of the next message."""
        self.requests.setdefault(node, []).append(messages)
        part, error = self.errors.get(node, ("", None))
        if error is not None and part in messages[-1].text:
            raise error
        if "structured" in tools:
            return {"content": "", "tool_calls": [{"name": tools[1], "args": dict(self.fields[node]), "id": "call_1"}]}
        if tools and self.calls.get(node):
            name, arguments = self.calls[node].pop(0)
            number = len(self.requests[node])
            return {"content": "", "tool_calls": [{"name": name, "args": arguments, "id": f"call_{number}"}]}
        return {"content": self.texts.get(node, f"{node}의 답")}


class ScriptedModel(FakeModel):
    """Answers for one node. Its system prompt must name that node."""

    script: Script = Field(default_factory=Script)
    node: str = ""

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        names = []
        for tool in tools:
            if isinstance(tool, BaseTool):
                names.append(tool.name)
            elif isinstance(tool, type):
                names += ["structured", tool.__name__]
        return self.bind(tools=names)

    def _message(self, messages: list[BaseMessage], tools: list[str]) -> dict[str, Any]:
        assert isinstance(messages[0], SystemMessage)
        assert messages[0].text.startswith(f"# {self.node}\n"), (self.node, messages[0].text[:40])
        return {
            **self.script.answer(self.node, messages, tools),
            "usage_metadata": self.usage,
            "response_metadata": {**self._response_metadata(), "model_provider": "openai"},
        }

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        await self.script.begin(self.node)
        message = AIMessage(**self._message(messages, kwargs.get("tools", [])))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        message = self._message(messages, kwargs.get("tools", []))
        for word in message["content"].split(" "):
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
        yield ChatGenerationChunk(message=AIMessageChunk(**{**message, "content": ""}))


class FakeServices:
    """All clients in one. Each method returns a row or raises ``errors[<method>]``."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def _record(self, method: str, *args: Any, **kwargs: Any) -> None:
        self.calls.append((method, args, kwargs))
        if method in self.errors:
            raise self.errors[method]

    async def search(self, query: str, **options: Any) -> tuple[Place, ...]:
        self._record("search", query, **options)
        return (Place(name=f"{query} 1호", latitude=37.498, longitude=127.0276, address="서울 강남구"),)

    async def forecast(self, latitude: float, longitude: float, **options: Any) -> Forecast:
        self._record("forecast", latitude, longitude, **options)
        at = datetime(2026, 11, 20, 9, tzinfo=UTC)
        hour = Hour(at, 3.0, "흐림", "비", 70, "1mm 미만", "적설없음", 80, 2.0)
        return Forecast(nx=60, ny=127, issued_at=at, hours=(hour,))

    async def collection_points(self, **wanted: str) -> tuple[CollectionPoint, ...]:
        self._record("collection_points", **wanted)
        return (CollectionPoint(name="강남 재활용센터", kind="폐휴대폰"),)

    async def fees(self, item: str, **where: str) -> tuple[Fee, ...]:
        self._record("fees", item, **where)
        return (Fee(district="강남구", item=item, size="3인용", fee_won=8000),)

    async def prices(self, item: str = "", **where: str) -> tuple[Price, ...]:
        self._record("prices", item, **where)
        return (Price(item="압축 PET", region="전국", month=date(2026, 11, 1), price_won_per_kg=Decimal(412)),)

    async def character(self, material: str) -> Character | None:
        self._record("character", material)
        return Character("페티", "무색페트병", "라벨을 떼 주세요!") if "페트" in material else None

    async def all(self) -> tuple[Character, ...]:
        self._record("all")
        return (Character("페티", "무색페트병", "라벨을 떼 주세요!"), Character("캐니", "캔", "헹궈 주세요."))
