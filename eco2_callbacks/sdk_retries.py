"""SDKRetryCounter: counts the retries inside the clients of the official models, by event hooks of httpx.

A retry inside an SDK fires no callback, and the provider may bill both requests. The counter takes the HTTP clients of
the SDKs from the model objects; some stand in private attributes. Tested with langchain-openai 1.7 (openai 3.57),
langchain-anthropic 1.7 (anthropic 2.14) and langchain-google-genai 4.4 (google-genai 3.6), on httpx and httpx2.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any
from uuid import UUID

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.log_once import is_first
from eco2_callbacks.runs import OpenLLMCall

__all__ = ["SDKRetryCounter"]

_logger = logging.getLogger(__name__)
# openai and anthropic number their attempts. google-genai does not: every further request of a call is a retry.
_ATTEMPT = "x-stainless-retry-count"
_GOOGLE_PATH = "enerateContent"
_MAX_DEPTH = 8
# The call that started last in this context. LangChain runs a model in the context of its start callback or a copy.
_current_call: ContextVar[UUID | None] = ContextVar("eco2_callbacks_current_call", default=None)


class SDKRetryCounter:
    """Counts on the open call each request that repeats another one.

    Args:
        open_call: Returns the open model call with a run id.
        on_failure: Called with ``sdk_retries`` where a client cannot be watched.
    """

    def __init__(self, open_call: Callable[[UUID], OpenLLMCall | None], on_failure: Callable[[str], None]) -> None:
        self._open_call = open_call
        self._on_failure = on_failure
        self._hooked: list[tuple[list[Any], _Hook]] = []
        self.is_watching = False

    def watch(self, model: Any) -> None:
        """Watch the clients of a model, or of the models inside a binding, fallback or retry.

        Raises:
            ConfigError: If it is none of the official models.
        """
        models = [found for found in _models_in(model, _MAX_DEPTH) if _sdk_of(found)]
        if not models:
            raise ConfigError(
                f"count_sdk_retries() came with {type(model).__name__!r}, wanted a ChatOpenAI, ChatAnthropic or "
                "ChatGoogleGenerativeAI, or a binding of one; pass the model itself."
            )
        for found in models:
            try:
                for hooks, is_async in _hook_lists(found):
                    self._add(hooks, _AsyncHook(self) if is_async else _Hook(self))
            except Exception:
                self._on_failure("sdk_retries")
                if is_first("sdk_retries", type(found).__name__):
                    _logger.exception(
                        "The HTTP client of %s was not found; retries inside its SDK are not counted.",
                        type(found).__name__,
                    )
        self.is_watching = True

    def on_start(self, run_id: UUID) -> None:
        """Note the call that starts in this context."""
        _current_call.set(run_id)

    def on_request(self, request: Any) -> None:
        """Count a request if it repeats another one of the same call."""
        run_id = _current_call.get()
        call = None if run_id is None else self._open_call(run_id)
        if call is None:
            return
        attempt = request.headers.get(_ATTEMPT)
        if attempt is not None:
            retries = int(attempt) if attempt.isdecimal() else 0
            call.sdk_retries = max(call.sdk_retries or 0, retries)
        elif _GOOGLE_PATH in request.url.path:
            call.sdk_retries = 0 if call.sdk_retries is None else call.sdk_retries + 1

    def close(self) -> None:
        """Take the hooks off all clients: several models share one."""
        self.is_watching = False
        for hooks, hook in self._hooked:
            hooks[:] = [other for other in hooks if other is not hook]
        self._hooked.clear()

    def _add(self, hooks: list[Any], hook: _Hook) -> None:
        if not any(isinstance(other, _Hook) and other.belongs_to(self) for other in hooks):
            hooks.append(hook)
            self._hooked.append((hooks, hook))


class _Hook:
    """A request hook of a synchronous client. It keeps no forgotten handler alive."""

    def __init__(self, counter: SDKRetryCounter) -> None:
        self._counter = weakref.ref(counter)

    def belongs_to(self, counter: SDKRetryCounter) -> bool:
        return self._counter() is counter

    def count(self, request: Any) -> None:
        if (counter := self._counter()) is not None:
            try:
                counter.on_request(request)
            except Exception:  # the request must be sent, whatever happens here
                if is_first("sdk_retries", "request"):
                    _logger.exception("A request to a provider could not be counted; it is sent all the same.")

    def __call__(self, request: Any) -> Any:
        self.count(request)


class _AsyncHook(_Hook):
    """The same for an asynchronous client."""

    async def __call__(self, request: Any) -> None:
        self.count(request)


def _models_in(runnable: Any, depth: int) -> Iterator[Any]:
    """Yield a model, or the models inside bindings, fallbacks and retries around it."""
    yield runnable
    inner = [getattr(runnable, name, None) for name in ("bound", "runnable")] if depth else []
    for found in (*inner, *(getattr(runnable, "fallbacks", None) or ())):
        if found is not None:
            yield from _models_in(found, depth - 1)


def _sdk_of(model: Any) -> str:
    """Return which SDK a model uses: ``openai``, ``anthropic``, ``google``, or ``""``."""
    names = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}
    known = {
        ("langchain_openai", "BaseChatOpenAI"): "openai",
        ("langchain_anthropic", "ChatAnthropic"): "anthropic",
        ("langchain_google_genai", "ChatGoogleGenerativeAI"): "google",
    }
    return next((sdk for name, sdk in known.items() if name in names), "")


def _hook_lists(model: Any) -> Iterator[tuple[list[Any], bool]]:
    """Yield the lists of request hooks of a model's clients, and whether these are asynchronous."""
    sdk = _sdk_of(model)
    if sdk == "google":
        api = model.client._api_client
        if api._use_aiohttp() and is_first("sdk_retries", "aiohttp"):
            _logger.warning(
                "google-genai sends asynchronous requests by aiohttp, which is installed: retries of asynchronous "
                "calls are not counted, those of synchronous ones are. See docs/limits.md."
            )
        yield api._httpx_client.event_hooks["request"], False
        if (client := api._async_httpx_client) is not None:
            # One inner client for each event loop, built from these arguments.
            hooks = client._client_kwargs.setdefault("event_hooks", {}).setdefault("request", [])
            yield hooks, True
            for inner in client._loop_clients.values():
                yield inner.event_hooks["request"], True
        return
    names = ("root_client", "root_async_client") if sdk == "openai" else ("_client", "_async_client")
    for name, is_async in zip(names, (False, True), strict=True):
        if (client := getattr(model, name)) is not None:
            yield client._client.event_hooks["request"], is_async
