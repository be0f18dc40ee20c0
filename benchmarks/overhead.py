"""Measures what a handler adds to a LangChain program, in microseconds and relative to a handler that does nothing.

    uv run python benchmarks/overhead.py [--rounds 7] [--repeat 200]
    uv run --with openinference-instrumentation-langchain python benchmarks/overhead.py  # compares one more handler

Every round runs all handlers one after another, so that a slow moment of the machine affects all of them. A figure is
the minimum of all rounds, less the minimum without a handler: other work on the machine disturbs minima least. Absolute
times differ between machines; ratios hardly do.
A handler's deferred work is part of the measured time: records are counted, queues drained, spans flushed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import operator
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, TypedDict

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.graph import END, START, StateGraph

from handlers import HANDLERS, NOT_INSTALLED, Subject

GOALS = {"async token": 1.25, "sync token": 1.9, "call": 2.0, "graph": 1.75}
_TOKENS = 1000
_NODES = 8
_USAGE: UsageMetadata = {
    "input_tokens": 1200,
    "output_tokens": 350,
    "total_tokens": 1550,
    "input_token_details": {"cache_read": 1024},
    "output_token_details": {"reasoning": 128},
}
_RESPONSE_METADATA = {"model_name": "gpt-5.2-2025-12-11", "service_tier": "default", "model_provider": "openai"}


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


def _graph(model: Model) -> Any:
    graph = StateGraph(_State)
    names = [f"node_{number}" for number in range(_NODES)]
    for name in names:

        async def node(state: _State) -> dict[str, Any]:
            answer = await model.ainvoke("question")
            return {"intent": "waste", "answers": [str(answer.content)]}

        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile()


async def _measure(kind: str, subject: Subject, model: Model, graph: Any, repeat: int) -> float:
    """Return seconds for one token, call or graph run."""
    config: Any = {"callbacks": subject.handlers}
    started = time.perf_counter()
    if kind == "async token":
        times = _TOKENS
        async for _ in model.astream("question", config=config):
            pass
    elif kind == "sync token":
        times = _TOKENS
        for _ in model.stream("question", config=config):
            pass
    elif kind == "call":
        times = repeat
        for _ in range(times):
            await model.ainvoke("question", config=config)
    else:
        times = repeat // 10
        for _ in range(times):
            await graph.ainvoke({"intent": "", "answers": []}, config=config)
    seconds = time.perf_counter() - started
    # CPU time of all threads: the rest of the wall time is waiting.
    started = time.process_time()
    subject.settle()
    return (seconds + time.process_time() - started) / times


async def compare(rounds: int, repeat: int) -> dict[str, dict[str, float]]:
    """Return the added microseconds by kind of measurement and by handler."""
    model = Model()
    graph = _graph(model)
    measured = {name: build() for name, build in HANDLERS.items()}
    added: dict[str, dict[str, float]] = {}
    for kind in GOALS:
        seconds: dict[str, list[float]] = {name: [] for name in measured}
        for round_number in range(rounds + 1):
            for name, subject in measured.items():
                gc.collect()
                gc.disable()
                taken = [await _measure(kind, subject, model, graph, repeat) for _ in range(3)]
                gc.enable()
                if round_number:  # the first round warms up
                    seconds[name].append(min(taken))
        none = seconds.pop("none")
        added[kind] = {name: 1e6 * (min(taken) - min(none)) for name, taken in seconds.items()}
    return added


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="interleaved rounds, at least 7 for a claim (default: 7)")
    parser.add_argument("--repeat", type=int, default=200, help="calls in a round (default: 200)")
    arguments = parser.parse_args()
    added = asyncio.run(compare(arguments.rounds, arguments.repeat))
    print(f"{'added microseconds (times the floor)':36}" + "".join(f"{kind:>20}" for kind in added))
    for name in list(HANDLERS)[1:]:
        cells = (f"{us[name]:9.1f} ({us[name] / us['floor']:5.2f})" for us in added.values())
        print(f"{name:36}" + "".join(f"{cell:>20}" for cell in cells))
    print(f"{'goal':36}" + "".join(f"{f'({goal:5.2f})':>20}" for goal in GOALS.values()))
    for name in NOT_INSTALLED:
        print(f"{name} is not installed and was skipped.")


if __name__ == "__main__":
    main()
