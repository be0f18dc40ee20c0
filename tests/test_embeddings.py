"""MeasuredEmbeddings: embeddings are reported like any other model call."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import OpenAIEmbeddings
from langgraph.graph import END, START, MessagesState, StateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, MeasuredEmbeddings
from eco2_callbacks.testing import RecordingSink
from tests.support.openai_embeddings import TOKENS, embeddings_server
from tests.support.record_sink import exposed


@pytest.fixture(scope="module")
def openai() -> Iterator[str]:
    with embeddings_server() as url:
        yield url


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def handler(sink: RecordingSink, registry: CollectorRegistry) -> Eco2CallbackHandler:
    return Eco2CallbackHandler(registry=registry, sinks=[sink])


def official(url: str) -> OpenAIEmbeddings:
    return OpenAIEmbeddings(
        model="text-embedding-3-small", api_key="x", base_url=url, check_embedding_ctx_length=False, chunk_size=2
    )


@pytest.mark.parametrize("way", ["embed_documents", "embed_query", "aembed_documents", "aembed_query"])
async def test_openai_reports_what_the_api_states(way, openai, handler, sink, registry, monkeypatch) -> None:
    """The usage of each HTTP answer counts, whole or in batches; the vectors are those of the wrapped object."""
    monkeypatch.setenv("OPENAI_BASE_URL", openai)
    embeddings = MeasuredEmbeddings(official(openai), handler, provider="openai")
    argument: Any = "a" if "query" in way else ["a", "b", "c"]

    vectors = getattr(embeddings, way)(argument)
    vectors = await vectors if way.startswith("a") else vectors

    texts = 1 if "query" in way else 3
    assert len(vectors) == (2 if "query" in way else 3)
    (call,) = sink.calls
    assert (call.operation, call.provider, call.model) == ("embeddings", "openai", "text-embedding-3-small")
    assert (call.usage.input_tokens, call.usage.output_tokens, call.estimated) == (TOKENS * texts, 0, False)
    # 0.02 USD per million tokens
    assert call.cost.total_usd == Decimal("0.00000002") * TOKENS * texts
    assert exposed(registry, "llm_tokens_total") == TOKENS * texts
    assert handler.totals().llm_calls == 1


def test_other_embeddings_are_counted_offline(handler, sink) -> None:
    """A class that drops the usage gives an estimate, marked as such, from the texts alone."""
    embeddings = MeasuredEmbeddings(
        DeterministicFakeEmbedding(size=4), handler, provider="openai", model="text-embedding-3-small"
    )

    embeddings.embed_documents(["Where does glass go?", "To the bottle bank."])

    (call,) = sink.calls
    # cl100k_base: 5 and 5 tokens
    assert call.usage.input_tokens == 10
    assert (call.estimated, call.estimate_reason, call.cost.total_usd) == (True, "no_usage", Decimal("0.0000002"))


def test_a_failure_passes_on_and_is_recorded(openai, handler, sink, monkeypatch) -> None:
    """The application sees its exception; the record has the status error and no invented tokens."""
    embeddings = MeasuredEmbeddings(official(openai), handler)

    with pytest.raises(Exception, match="400"):
        embeddings.embed_query("boom")

    (call,) = sink.calls
    assert (call.status, call.usage) == ("error", None)


def test_embeddings_inside_a_node_count_there(handler, sink) -> None:
    """Without handler= the handlers of the run around it are taken; node, tenant and request get the tokens."""
    embeddings = MeasuredEmbeddings(
        DeterministicFakeEmbedding(size=4), provider="openai", model="text-embedding-3-small"
    )
    store = InMemoryVectorStore.from_texts(["glass", "paper"], embeddings)
    assert sink.records == []

    async def search(state: MessagesState) -> dict:
        await store.as_retriever(search_kwargs={"k": 1}).ainvoke("glass")
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node(search)
    builder.add_edge(START, "search")
    builder.add_edge("search", END)
    import asyncio

    config = {"callbacks": [handler], "metadata": {"tenant_id": "acme"}}
    asyncio.run(builder.compile().ainvoke({"messages": []}, config))

    (call,) = sink.calls
    assert (call.node, call.tenant_id, call.operation) == ("search", "acme", "embeddings")
    assert call.trace_id == sink.requests[0].trace_id
    assert sink.nodes[0].usage == call.usage
    assert sink.requests[0].cost == call.cost


def test_without_any_handler_nothing_is_measured(sink) -> None:
    """Outside of a measured run the wrapper only passes on."""
    embeddings = MeasuredEmbeddings(DeterministicFakeEmbedding(size=4), provider="openai", model="x")

    assert RunnableLambda(embeddings.embed_query).invoke("a") == embeddings.embed_query("a")
    assert sink.records == []


def test_everything_else_is_the_wrapped_objects_own(openai) -> None:
    """Vector stores read other attributes of embeddings; these still work, and copies do too."""
    import copy

    embeddings = MeasuredEmbeddings(official(openai))

    assert embeddings.chunk_size == 2
    assert copy.copy(embeddings).chunk_size == 2
    with pytest.raises(AttributeError):
        _ = embeddings.no_such_attribute


class _Unnamed(Embeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        return [[0.0] for _ in texts]

    def embed_query(self, text: str) -> list[float]:
        return [0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((object(),), r"embeddings= is .*, wanted LangChain Embeddings; pass OpenAIEmbeddings\(\)\."),
        ((_Unnamed(), object()), r"handler= is .*, wanted a Eco2CallbackHandler; pass your handler"),
        ((_Unnamed(),), r"The model of _Unnamed is unknown, wanted a text; pass model=\."),
    ],
    ids=["embeddings", "handler", "model"],
)
def test_what_cannot_be_priced_is_refused(arguments: Any, message: str) -> None:
    """The error says what came, what was wanted and what to do."""
    with pytest.raises(ConfigError, match=message):
        MeasuredEmbeddings(*arguments)
