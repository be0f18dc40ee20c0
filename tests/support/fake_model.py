"""A chat model with configurable answers, with usage and metadata like an official model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from decimal import Decimal
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import BaseTool
from pydantic import Field

USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
# USD for USAGE, gpt-5.2: 1000 x 1.75 + 100 x 14 USD per million tokens
COST = Decimal("0.00315")
# With cached and reasoning tokens.
DETAILED_USAGE = {
    "input_tokens": 1200,
    "output_tokens": 350,
    "total_tokens": 1550,
    "input_token_details": {"cache_read": 1024},
    "output_token_details": {"reasoning": 128},
}


class FakeModel(BaseChatModel):
    """Answers as ``gpt-5.2`` at standard rates; each field configures one part of the answer."""

    model: str = "gpt-5.2"
    answered_by: str | None = "gpt-5.2-2025-12-11"
    provider: str = "openai"
    words: list[str] = Field(default_factory=lambda: ["sort ", "it ", "well"])
    usage: Any = Field(default_factory=lambda: dict(USAGE))
    metadata_of_answer: dict[str, Any] = Field(default_factory=dict)
    fails: list[BaseException] = Field(default_factory=list)
    fails_after: int | None = None
    pause_seconds: float = 0.0
    on_pause: Callable[[], None] | None = None

    model_config = {"arbitrary_types_allowed": True}

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model, "ls_model_type": "chat"}

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=[tool.name for tool in tools if isinstance(tool, BaseTool)])

    def _response_metadata(self) -> dict[str, Any]:
        model_name = {} if self.answered_by is None else {"model_name": self.answered_by}
        return {**model_name, **self.metadata_of_answer}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        if self.fails:
            raise self.fails.pop(0)
        message = AIMessage(
            content="".join(self.words), usage_metadata=self.usage, response_metadata=self._response_metadata()
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        await self._pause()
        return self._generate(messages)

    async def _pause(self) -> None:
        if self.pause_seconds:
            if self.on_pause:
                self.on_pause()
            await asyncio.sleep(self.pause_seconds)

    def _chunks(self) -> Iterator[ChatGenerationChunk]:
        for number, word in enumerate(self.words):
            if number == self.fails_after:
                raise self.fails.pop(0)
            yield ChatGenerationChunk(message=AIMessageChunk(content=word))
        yield ChatGenerationChunk(
            message=AIMessageChunk(content="", usage_metadata=self.usage, response_metadata=self._response_metadata())
        )

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            if run_manager:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in self._chunks():
            await self._pause()
            if run_manager:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk
