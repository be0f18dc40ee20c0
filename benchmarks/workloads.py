"""What the benchmark runs: a fake model, a two-level graph, and one function for each kind of operation."""

from __future__ import annotations

import operator
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, NamedTuple, TypedDict

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, StateGraph

__all__ = ["WORKLOADS", "Model", "Workload"]

_TOKENS = 1000
_USAGE: UsageMetadata = {
    "input_tokens": 1200,
    "output_tokens": 350,
    "total_tokens": 1550,
    "input_token_details": {"cache_read": 1024},
    "output_token_details": {"reasoning": 128},
}
_RESPONSE_METADATA = {
    "token_usage": {
        "completion_tokens": 350,
        "prompt_tokens": 1200,
        "total_tokens": 1550,
        "completion_tokens_details": {"reasoning_tokens": 128},
        "prompt_tokens_details": {"cached_tokens": 1024},
    },
    "model_name": "gpt-5.2-2025-12-11",
    "service_tier": "default",
    "model_provider": "openai",
    "finish_reason": "stop",
    "id": "chatcmpl-1",
}


class Model(BaseChatModel):
    """Answers immediately, or streams a thousand tokens, with the usage and metadata of a real answer."""

    @property
    def _llm_type(self) -> str:
        return "benchmark"

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-5.2", "ls_model_type": "chat"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        message = AIMessage(content="answer", usage_metadata=_USAGE, response_metadata=dict(_RESPONSE_METADATA))
        return ChatResult(generations=[ChatGeneration(message=message)])

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._generate(messages)

    def _stream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        for chunk in _chunks():
            if run_manager:
                run_manager.on_llm_new_token("word ", chunk=chunk)
            yield chunk

    async def _astream(
        self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        for chunk in _chunks():
            if run_manager:
                await run_manager.on_llm_new_token("word ", chunk=chunk)
            yield chunk


def _chunks() -> Iterator[ChatGenerationChunk]:
    for _ in range(_TOKENS - 1):
        yield ChatGenerationChunk(message=AIMessageChunk(content="word "))
    yield ChatGenerationChunk(
        message=AIMessageChunk(content="word ", usage_metadata=_USAGE, response_metadata=dict(_RESPONSE_METADATA))
    )


class _State(TypedDict):
    intent: str
    answers: Annotated[list[str], operator.add]


_MODEL = Model()


def _graph() -> Any:
    """Return a graph of two nodes, each a graph of four nodes with one model call each."""
    outer = StateGraph(_State)
    for above in ("plan", "answer"):
        inner = StateGraph(_State)
        names = [f"{above}_{number}" for number in range(4)]
        for name in names:

            async def node(state: _State) -> dict[str, Any]:
                answer = await _MODEL.ainvoke("question")
                return {"intent": "waste", "answers": [str(answer.content)]}

            inner.add_node(name, node)
        for before, after in zip([START, *names], [*names, END], strict=True):
            inner.add_edge(before, after)
        outer.add_node(above, inner.compile())
    outer.add_edge(START, "plan")
    outer.add_edge("plan", "answer")
    outer.add_edge("answer", END)
    return outer.compile()


_GRAPH = _graph()


class Workload(NamedTuple):
    """One kind of operation.

    Attributes:
        run: Performs operations, given the handlers and how often.
        repeat: Operations in one block.
        operations: What one repetition counts as: a stream is a thousand tokens.
        goal_caller: Goal for the calling thread, times the floor.
        goal_total: Goal with the deferred work.
    """

    run: Callable[[Sequence[BaseCallbackHandler], int], Awaitable[None]]
    repeat: int
    operations: int
    goal_caller: float
    goal_total: float


def _config(handlers: Sequence[BaseCallbackHandler], **metadata: str) -> Any:
    return {"callbacks": list(handlers), "metadata": metadata}


async def _async_tokens(handlers: Sequence[BaseCallbackHandler], times: int) -> None:
    config = _config(handlers, tenant_id="acme", user_id="u1", session_id="s1")
    for _ in range(times):
        async for _ in _MODEL.astream("question", config=config):
            pass


async def _sync_tokens(handlers: Sequence[BaseCallbackHandler], times: int) -> None:
    config = _config(handlers, tenant_id="acme", user_id="u1", session_id="s1")
    for _ in range(times):
        for _ in _MODEL.stream("question", config=config):
            pass


async def _calls(handlers: Sequence[BaseCallbackHandler], times: int) -> None:
    config = _config(handlers, tenant_id="acme", user_id="u1", session_id="s1")
    for _ in range(times):
        await _MODEL.ainvoke("question", config=config)


async def _graphs(handlers: Sequence[BaseCallbackHandler], times: int) -> None:
    config = _config(handlers, tenant_id="acme", user_id="u1", session_id="s1")
    for _ in range(times):
        await _GRAPH.ainvoke({"intent": "", "answers": []}, config=config)


WORKLOADS: Mapping[str, Workload] = {
    "async token": Workload(_async_tokens, 1, _TOKENS, 1.15, 1.25),
    "sync token": Workload(_sync_tokens, 1, _TOKENS, 1.4, 1.6),
    "call": Workload(_calls, 64, 1, 1.75, 2.3),
    "graph of 8 calls": Workload(_graphs, 8, 1, 1.6, 2.0),
}
