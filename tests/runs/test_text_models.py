"""Text-completion models: LangChain starts each prompt of an async call in a task of its own, which ends at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.outputs import Generation, LLMResult
from prometheus_client import CollectorRegistry
from pydantic import Field

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import COST
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, graph_of


class Completion(BaseLLM):
    """Answers prompts together, each with 1,000 tokens of input and 100 of output, once ``go_on`` is set."""

    go_on: Any = Field(default_factory=asyncio.Event)
    on_sent: Any = None

    @property
    def _llm_type(self) -> str:
        return "completion"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-5.2", "ls_model_type": "llm"}

    def _generate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        count = len(prompts)
        usage = {"prompt_tokens": 1000 * count, "completion_tokens": 100 * count, "total_tokens": 1100 * count}
        return LLMResult(
            generations=[[Generation(text="text")] for _ in prompts],
            llm_output={"token_usage": usage, "model_name": "gpt-5.2-2025-12-11"},
        )

    async def _agenerate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        if self.on_sent is not None:
            self.on_sent()
        await self.go_on.wait()
        return self._generate(prompts)


async def one_by_one(model: Completion, config: Any) -> None:
    """Have three calls open, and answer one after the other."""
    models = [model.model_copy(update={"go_on": asyncio.Event()}) for _ in range(3)]
    tasks = [asyncio.create_task(each.ainvoke(f"prompt {n}", config)) for n, each in enumerate(models)]
    for each, task in zip(models, tasks, strict=True):
        each.go_on.set()
        await task


async def batch(model: Completion, config: Any) -> None:
    model.go_on.set()
    await model.abatch(["a", "b", "c"], config)


async def nodes(model: Completion, config: Any) -> None:
    async def ask(state: State) -> State:
        await one_by_one(model, None)
        return {}

    await graph_of(ask).compile().ainvoke({}, config)


@pytest.mark.parametrize("ask", [one_by_one, batch, nodes])
async def test_calls_that_overlap_are_no_abandoned_calls(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, ask: Any
) -> None:
    """Each call ends with its own answer, and the dollars are those of the three answers."""
    await ask(Completion(), {"callbacks": [handler]})

    assert [(call.status, call.estimated) for call in records.calls] == [("success", False)] * 3
    assert sum((call.cost.total_usd for call in records.calls if call.cost is not None), Decimal(0)) == 3 * COST
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


async def test_a_call_left_in_the_background_keeps_its_answer(handler: Eco2CallbackHandler, records: Records) -> None:
    """A node that does not wait for its call closes it no more than a chat model's."""
    model, tasks = Completion(), []

    async def ask(state: State) -> State:
        sent = asyncio.Event()
        tasks.append(asyncio.create_task(model.model_copy(update={"on_sent": sent.set}).ainvoke("prompt")))
        await sent.wait()
        return {}

    await graph_of(ask).compile().ainvoke({}, {"callbacks": [handler]})
    model.go_on.set()
    await asyncio.gather(*tasks)

    assert (records.call.status, records.call.estimated) == ("success", False)
    assert records.call.cost is not None
    assert records.call.cost.total_usd == COST


async def test_a_cancelled_call_ends_as_cancelled(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """LangChain fires its end callback, with no answer: it is an estimate."""
    sent = asyncio.Event()
    task = asyncio.create_task(Completion(on_sent=sent.set).ainvoke("a prompt", {"callbacks": [handler]}))
    await sent.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert (records.call.status, records.call.estimate_reason) == ("cancelled", "cancelled")
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


def test_a_sync_call_stopped_by_another_handler_is_closed(handler: Eco2CallbackHandler, records: Records) -> None:
    """Another handler raises at the start: no end fires, and the next call of the thread closes this one."""

    class Stops(BaseCallbackHandler):
        raise_error = True

        def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("stopped")

    model = Completion()
    with pytest.raises(RuntimeError, match="stopped"):
        model.invoke("prompt", {"callbacks": [handler, Stops()]})
    model.invoke("prompt", {"callbacks": [handler]})

    assert sorted(call.status for call in records.calls) == ["cancelled", "success"]
