"""Models that ask another model and pass its answer on: one answer of the provider is one bill."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import RunnableLambda, RunnableParallel
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.fake_model import COST, USAGE, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.tracing_modes import activate


class WithIds(FakeModel):
    """A model whose provider gives each message an id: a new one, or always the same."""

    message_id: str | None = None

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        result = super()._generate(messages)
        result.generations[0].message.id = self.message_id
        return result


class Wrapper(BaseChatModel):
    """Passes on what another model answers."""

    inner: Any
    provider: str = "wrapper"
    change: Callable[[Any], Any] = lambda message: message

    @property
    def _llm_type(self) -> str:
        return "wrapper"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": self.provider, "ls_model_name": "gpt-5.2", "ls_model_type": "chat"}

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._result(self.inner.invoke(messages))

    async def _agenerate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return self._result(await self.inner.ainvoke(messages))

    def _result(self, message: BaseMessage) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=self.change(message))])


class StreamingWrapper(Wrapper):
    """Passes on what another model streams."""

    def _stream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for chunk in self.inner.stream(messages):
            yield ChatGenerationChunk(message=chunk)

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        async for chunk in self.inner.astream(messages):
            yield ChatGenerationChunk(message=chunk)


class ThreadedWrapper(Wrapper):
    """Is only synchronous: LangChain runs it in a thread."""

    _agenerate = BaseChatModel._agenerate


def invoke(model: Any, config: Any) -> Any:
    return model.invoke("How do I sort this?", config)


def ainvoke(model: Any, config: Any) -> Any:
    return asyncio.run(model.ainvoke("How do I sort this?", config))


def stream(model: Any, config: Any) -> Any:
    return list(model.stream("How do I sort this?", config))


def astream(model: Any, config: Any) -> Any:
    async def read() -> list[Any]:
        return [chunk async for chunk in model.astream("How do I sort this?", config)]

    return asyncio.run(read())


def in_node(model: Any, config: Any) -> Any:
    """Both calls below one run, as in a graph's node."""
    return RunnableLambda(model.invoke).invoke("How do I sort this?", config)


def ain_node(model: Any, config: Any) -> Any:
    async def node(text: str) -> Any:
        return await model.ainvoke(text)

    return asyncio.run(RunnableLambda(node).ainvoke("How do I sort this?", config))


WAYS = [invoke, ainvoke, stream, astream, in_node, ain_node]


@pytest.mark.parametrize("message_id", [None, "msg_1"], ids=["id of LangChain", "id of the provider"])
@pytest.mark.parametrize("provider", ["wrapper", "openai"])
@pytest.mark.parametrize("wrapper", [Wrapper, StreamingWrapper, ThreadedWrapper])
@pytest.mark.parametrize("way", WAYS)
def test_an_answer_that_is_passed_on_is_billed_once(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    way: Any,
    wrapper: type[Wrapper],
    provider: str,
    message_id: str | None,
) -> None:
    """The model that answered has the tokens and dollars; the one that passed them on has none, and is not unpriced."""
    handler.install()
    way(wrapper(inner=WithIds(message_id=message_id), provider=provider), {"callbacks": [handler]})
    handler.uninstall()

    inner, outer = records.calls
    assert inner.cost is not None
    assert (inner.cost.total_usd, inner.from_cache, inner.provider) == (COST, False, "openai")
    assert outer.cost is not None
    assert (outer.cost.total_usd, outer.usage, outer.from_cache) == (Decimal(0), TokenUsage(), True)
    assert (outer.provider, outer.unpriced_reason, outer.estimated) == (provider, None, False)
    assert handler.totals().usage.total_tokens == USAGE["total_tokens"]
    assert exposed(registry, "llm_unpriced_calls_total") == 0


def test_a_wrapper_of_a_wrapper_bills_once(handler: Eco2CallbackHandler, records: Records) -> None:
    """Three calls, one answer, one bill."""
    model = Wrapper(inner=Wrapper(inner=FakeModel(), provider="second"), provider="first")

    in_node(model, {"callbacks": [handler]})

    assert [call.from_cache for call in records.calls] == [False, True, True]
    assert handler.totals().cost.total_usd == COST


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda message: message.model_copy(update={"content": "masked"}), id="a copy"),
        pytest.param(lambda message: setattr(message, "content", "masked") or message, id="the same object"),
    ],
)
@pytest.mark.parametrize("way", [in_node, ain_node])
def test_a_changed_text_is_the_same_answer(
    handler: Eco2CallbackHandler, way: Any, change: Callable[[Any], Any]
) -> None:
    """A guard masks the text and leaves the usage: nothing more was consumed."""
    assert way(Wrapper(inner=FakeModel(), change=change), {"callbacks": [handler]}).content == "masked"

    assert handler.totals().cost.total_usd == COST


@pytest.mark.parametrize("message_id", [None, "msg_1"], ids=["own ids", "one id for all"])
@pytest.mark.parametrize("way", [in_node, ain_node])
def test_a_model_that_asks_a_guard_first_has_an_answer_of_its_own(
    handler: Eco2CallbackHandler, way: Any, message_id: str | None
) -> None:
    """Both are billed where the usage differs, even if a stand-in gives all its messages one id."""
    guard = WithIds(
        model="gpt-5-mini", message_id=message_id, usage={**USAGE, "input_tokens": 500, "total_tokens": 600}
    )

    class Guarded(WithIds):
        def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
            guard.invoke(messages)
            return super()._generate(messages)

    way(Guarded(message_id=message_id), {"callbacks": [handler]})

    assert handler.totals().llm_calls == 2
    assert handler.totals().usage.input_tokens == 1500


@pytest.mark.parametrize("is_async", [False, True])
def test_branches_that_get_the_same_recorded_answer_are_all_billed(
    handler: Eco2CallbackHandler, is_async: bool
) -> None:
    """Two models answer at the same time with one id and usage, as recordings do; one call lies within the other."""
    go_on = threading.Event()

    class Slow(WithIds):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            go_on.wait(60)
            return super()._generate(*args, **kwargs)

        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            return await asyncio.to_thread(self._generate, *args, **kwargs)

    class Quick(WithIds):
        def _get_ls_params(self, *args: Any, **kwargs: Any) -> Any:
            return {"ls_provider": "openai", "ls_model_name": "gpt-5-mini", "ls_model_type": "chat"}

    def release(answer: AIMessage) -> AIMessage:
        go_on.set()
        return answer

    branches = RunnableParallel(
        slow=Slow(message_id="msg_1"), quick=Quick(message_id="msg_1") | RunnableLambda(release)
    )

    (ainvoke if is_async else invoke)(branches, {"callbacks": [handler]})

    assert handler.totals().llm_calls == 2
    assert handler.totals().usage.total_tokens == 2 * USAGE["total_tokens"]


def test_langsmith_has_the_tokens_once(handler: Eco2CallbackHandler, records: Records) -> None:
    """The outer run has zero tokens and dollars, like an answer from a cache."""
    with LangSmithServer() as server:
        with activate("environment", server, handler) as active:
            active.run(in_node, Wrapper(inner=FakeModel()), {"callbacks": active.callbacks})
        runs = [run for run in server.runs().values() if run["run_type"] == "llm"]

    usages = {run["id"]: run["extra"]["metadata"]["usage_metadata"] for run in runs}
    inner, outer = records.calls
    assert usages == {
        str(inner.run_id): usage_metadata(inner.usage, inner.cost),
        str(outer.run_id): usage_metadata(TokenUsage(), outer.cost),
    }
