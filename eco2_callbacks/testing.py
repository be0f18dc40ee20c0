"""For tests of applications: a sink that keeps its records, and a chat model whose answers and usage a test sets."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import InputTokenDetails, OutputTokenDetails, UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from pydantic import ConfigDict, PrivateAttr, SkipValidation, field_validator

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.totals import Totals
from eco2_callbacks.usage import TokenUsage

__all__ = ["FakeChatModel", "RecordingSink"]

_Kind = TypeVar("_Kind", LLMCall, NodeRun, ToolCall, RetrieverCall, GraphRun)


class RecordingSink:
    """Keeps every record in the order of the ends of the runs: ``Eco2CallbackHandler(sinks=[sink])``.

    It has no ``close``, so it gets each record before the callback returns: no test has to wait.

    Attributes:
        records: All records.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []

    def emit(self, record: Record) -> None:
        """Keep one record."""
        self.records.append(record)

    def clear(self) -> None:
        """Forget all records."""
        self.records.clear()

    @property
    def calls(self) -> list[LLMCall]:
        """The model calls."""
        return self._of(LLMCall)

    @property
    def nodes(self) -> list[NodeRun]:
        """The runs of nodes."""
        return self._of(NodeRun)

    @property
    def tools(self) -> list[ToolCall]:
        """The calls of tools."""
        return self._of(ToolCall)

    @property
    def retrievers(self) -> list[RetrieverCall]:
        """The calls of retrievers."""
        return self._of(RetrieverCall)

    @property
    def requests(self) -> list[GraphRun]:
        """The requests."""
        return self._of(GraphRun)

    @property
    def totals(self) -> Totals:
        """What all model calls consumed and cost."""
        return Totals.of(self.calls)

    def _of(self, kind: type[_Kind]) -> list[_Kind]:
        return [record for record in self.records if isinstance(record, kind)]


class FakeChatModel(BaseChatModel):
    """A chat model without a network. It is priced as the model that it names.

    Attributes:
        model: Name of the model, requested and answered.
        provider: LangChain's ``ls_provider``: ``openai``, ``anthropic``, ``google_genai``, ...
        answers: What each call answers, in turn; the last one is repeated. A text, a message (with tool calls, for
            instance), or an exception, which is raised.
        usage: What each call reports. None reports nothing, as a gateway does that drops the usage.
        pause_seconds: How long a call takes before its answer, or before each chunk of a stream.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = "gpt-5.2"
    provider: str = "openai"
    answers: SkipValidation[Sequence[str | AIMessage | BaseException]] = ("ok",)
    usage: TokenUsage | None = TokenUsage(input_tokens=100, output_tokens=10)
    pause_seconds: float = 0.0
    _calls: int = PrivateAttr(default=0)

    @field_validator("answers", mode="before")
    @classmethod
    def _check_answers(cls, answers: object) -> object:
        if isinstance(answers, str) or not isinstance(answers, Sequence) or not answers:
            raise ConfigError(f"answers= is {answers!r}, wanted a list of at least one answer; pass ['an answer'].")
        return answers

    @property
    def _llm_type(self) -> str:
        return "eco2-fake"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": self.model, "ls_model_type": "chat"}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> Runnable[Any, AIMessage]:
        """Return the model itself: its answers are set, whatever tools it is given."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        time.sleep(self.pause_seconds)
        return ChatResult(generations=[ChatGeneration(message=self._answer())])

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        await asyncio.sleep(self.pause_seconds)
        return ChatResult(generations=[ChatGeneration(message=self._answer())])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks(self._answer()):
            time.sleep(self.pause_seconds)
            if run_manager is not None:
                run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks(self._answer()):
            await asyncio.sleep(self.pause_seconds)
            if run_manager is not None:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    def _answer(self) -> AIMessage:
        """Return the next answer with the model's name and usage.

        Raises:
            BaseException: If it is one.
        """
        answer = self.answers[min(self._calls, len(self.answers) - 1)]
        self._calls += 1
        if isinstance(answer, BaseException):
            raise answer
        message = AIMessage(content=answer) if isinstance(answer, str) else answer.model_copy(deep=True)
        message.response_metadata = {"model_name": self.model, **message.response_metadata}
        if message.usage_metadata is None and self.usage is not None:
            message.usage_metadata = _usage_metadata(self.usage)
        return message


def _chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """Yield a message word by word; the last chunk holds the tool calls, the usage and the model's name."""
    if isinstance(message.content, str):
        for word in message.content.split(" "):
            yield ChatGenerationChunk(message=AIMessageChunk(content=f"{word} "))
        content: Any = ""
    else:
        content = message.content
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content=content,
            tool_calls=message.tool_calls,
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        )
    )


def _usage_metadata(usage: TokenUsage) -> UsageMetadata:
    """Return a usage as the official models report it."""
    metadata = UsageMetadata(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, total_tokens=usage.total_tokens
    )
    if usage.cache_read_tokens or usage.cache_creation_tokens or usage.input_audio_tokens:
        metadata["input_token_details"] = InputTokenDetails(
            cache_read=usage.cache_read_tokens,
            cache_creation=usage.cache_creation_tokens,
            audio=usage.input_audio_tokens,
        )
    if usage.reasoning_tokens or usage.output_audio_tokens:
        metadata["output_token_details"] = OutputTokenDetails(
            reasoning=usage.reasoning_tokens, audio=usage.output_audio_tokens
        )
    return metadata
