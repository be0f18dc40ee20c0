"""The ways to turn LangSmith's tracing on, each sending to the test's own server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import langsmith
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tracers.context import tracing_v2_enabled
from langchain_core.tracers.langchain import LangChainTracer
from langsmith import run_trees
from langsmith.utils import get_env_var, get_tracer_project

from tests.support.langsmith_server import LangSmithServer

__all__ = ["APPLICATION", "CALL_MODES", "TRACING_MODES", "ActiveTracing", "activate"]

# The name of the run around the graph where the application's own function is traced.
APPLICATION = "application"

T = TypeVar("T")


@dataclass(frozen=True)
class ActiveTracing:
    """Active tracing: pass ``callbacks`` in the graph's config, and make calls through ``run`` or ``arun``."""

    callbacks: list[BaseCallbackHandler]
    client: langsmith.Client
    # Whether the application's own function is traced, around what it calls.
    traceable: bool = False

    def run(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call it, inside the traced function if there is one; consume a stream inside the call."""

        def application() -> T:
            return call(*args, **kwargs)

        if self.traceable:
            return langsmith.traceable(name=APPLICATION, client=self.client, enabled=True)(application)()
        return application()

    async def arun(self, call: Callable[..., Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """Await it, inside the traced function if there is one; consume a stream inside the call."""

        async def application() -> T:
            return await call(*args, **kwargs)

        if self.traceable:
            return await langsmith.traceable(name=APPLICATION, client=self.client, enabled=True)(application)()
        return await application()


def activate(
    name: str, server: LangSmithServer, handler: BaseCallbackHandler | None = None, **client_options: Any
) -> AbstractContextManager[ActiveTracing]:
    """Turn tracing on in the named mode; at the end of the block the server recovers and everything has arrived.

    Use it inside the test: a fixture's context variables do not reach an async test.
    """
    return TRACING_MODES[name](server, [] if handler is None else [handler], **client_options)


@contextmanager
def _environment(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LANGSMITH_TRACING", "true")
        patch.setenv("LANGSMITH_ENDPOINT", server.url)
        patch.setenv("LANGSMITH_API_KEY", "lsv2_pt_test")
        patch.setattr(run_trees, "_CLIENT", None)
        _clear_env_caches()
        try:
            # LangChain would create the same client at the first run.
            with server.serving(run_trees.get_cached_client(**client_options)) as client:
                yield ActiveTracing(handlers, client)
        finally:
            patch.undo()
            _clear_env_caches()


def _clear_env_caches() -> None:
    get_env_var.cache_clear()
    get_tracer_project.cache_clear()


@contextmanager
def _tracing_v2_enabled(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with server.client(**client_options) as client, tracing_v2_enabled(client=client):
        yield ActiveTracing(handlers, client)


@contextmanager
def _tracing_context(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with server.client(**client_options) as client, langsmith.tracing_context(enabled=True, client=client):
        yield ActiveTracing(handlers, client)


@contextmanager
def _traceable(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with server.client(**client_options) as client:
        yield ActiveTracing(handlers, client, traceable=True)


@contextmanager
def _tracer_before(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with server.client(**client_options) as client:
        yield ActiveTracing([LangChainTracer(client=client), *handlers], client)


@contextmanager
def _tracer_after(
    server: LangSmithServer, handlers: list[BaseCallbackHandler], **client_options: Any
) -> Iterator[ActiveTracing]:
    with server.client(**client_options) as client:
        yield ActiveTracing([*handlers, LangChainTracer(client=client)], client)


TRACING_MODES: dict[str, Callable[..., AbstractContextManager[ActiveTracing]]] = {
    "environment": _environment,
    "tracing_v2_enabled": _tracing_v2_enabled,
    "tracing_context": _tracing_context,
    "traceable": _traceable,
    "tracer_before": _tracer_before,
    "tracer_after": _tracer_after,
}

# Tokens, and the graph's final state.
_STREAMED = ["messages", "values"]


async def _invoke(active: ActiveTracing, graph: Any, inputs: Any, **config: Any) -> Any:
    return active.run(graph.invoke, inputs, {**config, "callbacks": active.callbacks})


async def _ainvoke(active: ActiveTracing, graph: Any, inputs: Any, **config: Any) -> Any:
    return await active.arun(graph.ainvoke, inputs, {**config, "callbacks": active.callbacks})


async def _stream(active: ActiveTracing, graph: Any, inputs: Any, **config: Any) -> Any:
    def last() -> Any:
        config["callbacks"] = active.callbacks
        return [value for mode, value in graph.stream(inputs, config, stream_mode=_STREAMED) if mode == "values"][-1]

    return active.run(last)


async def _astream(active: ActiveTracing, graph: Any, inputs: Any, **config: Any) -> Any:
    async def last() -> Any:
        config["callbacks"] = active.callbacks
        parts = graph.astream(inputs, config, stream_mode=_STREAMED)
        return [value async for mode, value in parts if mode == "values"][-1]

    return await active.arun(last)


# Ways to call a graph under active tracing: ``await CALL_MODES[mode](active, graph, inputs, **config)`` returns the
# final state. The first and third call the synchronous method.
CALL_MODES: dict[str, Callable[..., Awaitable[Any]]] = {
    "invoke": _invoke,
    "ainvoke": _ainvoke,
    "stream": _stream,
    "astream": _astream,
}
