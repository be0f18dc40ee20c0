"""The official chat models, connected to a server on the loopback."""

from __future__ import annotations

from typing import Any, TypedDict

import httpx2
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableLambda
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph

import tests.support.httpx_for_gemini  # noqa: F401 - for its effect
from tests.support.failing_provider import Api

__all__ = ["APIS", "OfficialModels", "State", "graph_of"]

APIS: tuple[Api, ...] = ("chat", "responses", "gemini")


class OfficialModels:
    """Creates the models of one server, each once; they retry only if an option says so.

    Args:
        url: The server's address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._http, self._async_http = httpx2.Client(trust_env=False), httpx2.AsyncClient(trust_env=False)
        self._models: dict[str, BaseChatModel] = {}

    def model(self, api: Api, **options: Any) -> BaseChatModel:
        """Return a model: gpt-5.2 by Chat Completions or by Responses, or gemini-3-flash-preview."""
        key = f"{api} {sorted(options.items())}"
        if key not in self._models:
            self._models[key] = self._gemini(options) if api == "gemini" else self._openai(api, options)
        return self._models[key]

    async def aclose(self) -> None:
        self._http.close()
        await self._async_http.aclose()
        for model in self._models.values():
            if isinstance(model, ChatGoogleGenerativeAI) and model.client is not None:
                model.client.close()
                await model.client.aio.aclose()
        self._models.clear()

    def _openai(self, api: Api, options: dict[str, Any]) -> ChatOpenAI:
        defaults = {
            "model": "gpt-5.2",
            "api_key": "sk-test",
            "base_url": f"{self._url}/v1",
            "use_responses_api": api == "responses",
            "stream_usage": True,
            "max_retries": 0,
            "http_client": self._http,
            "http_async_client": self._async_http,
        }
        return ChatOpenAI(**{**defaults, **options})

    def _gemini(self, options: dict[str, Any]) -> ChatGoogleGenerativeAI:
        defaults = {
            "model": "gemini-3-flash-preview",
            "api_key": "test",
            "base_url": self._url,
            "max_retries": 1,  # attempts
            "client_args": {"trust_env": False},
        }
        return ChatGoogleGenerativeAI(**{**defaults, **options})


class State(TypedDict, total=False):
    message: str
    answer: str


def graph_of(model: Any, **options: Any) -> Any:
    """Return a graph of one node, ``answer``, that calls the model; it streams when the graph is streamed."""

    def answer(state: State) -> State:
        return {"answer": model.invoke(state["message"]).text}

    async def aanswer(state: State) -> State:
        return {"answer": (await model.ainvoke(state["message"])).text}

    graph = StateGraph(State).add_node("answer", RunnableLambda(answer, aanswer), **options)
    return graph.add_edge(START, "answer").compile()
