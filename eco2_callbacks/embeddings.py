"""MeasuredEmbeddings: tokens and dollars of embeddings, for which LangChain fires no callback."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Any, Final

from langchain_core.embeddings import Embeddings
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import ensure_config
from langchain_core.runnables.config import get_callback_manager_for_config

from eco2_callbacks.arguments import check_instance, check_text
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.handler import Eco2CallbackHandler
from eco2_callbacks.own_runs import SDKCall

__all__ = ["MeasuredEmbeddings"]

# LangChain's package of an embeddings class -> its provider, as LangChain names it.
_PROVIDERS: Final = {
    "langchain_aws": "amazon_bedrock",
    "langchain_cohere": "cohere",
    "langchain_fireworks": "fireworks",
    "langchain_google_genai": "google_genai",
    "langchain_google_vertexai": "google_vertexai",
    "langchain_huggingface": "huggingface",
    "langchain_mistralai": "mistralai",
    "langchain_nvidia_ai_endpoints": "nvidia",
    "langchain_ollama": "ollama",
    "langchain_openai": "openai",
    "langchain_together": "together",
    "langchain_voyageai": "voyageai",
}
_MODEL_FIELDS: Final = ("model", "model_name", "model_id", "deployment")
_ADDRESS_FIELDS: Final = ("openai_api_base", "azure_endpoint", "base_url", "endpoint_url")
_NO_USAGE: Final = LLMResult(generations=[[Generation(text="")]])


class MeasuredEmbeddings(Embeddings):
    """Embeddings that report each call as an ``LLMCall`` with ``operation="embeddings"``.

    OpenAI's classes pass on the usage that the API states. LangChain's other classes drop it, so the texts are counted
    offline, and the record is an estimate. Everything else, such as ``chunk_size``, is the wrapped object's own.

    Args:
        embeddings: The embeddings to use.
        handler: Gets the records. None takes the handlers of the run around the call, or the installed ones.
        model: The model, where the wrapped object does not name it.
        provider: Who is paid, as LangChain's ``ls_provider``, where the wrapped object's package does not tell.

    Raises:
        ConfigError: If an argument cannot be used, or if the model or the provider is unknown.
    """

    def __init__(
        self,
        embeddings: Embeddings,
        handler: Eco2CallbackHandler | None = None,
        *,
        model: str | None = None,
        provider: str | None = None,
    ) -> None:
        if not isinstance(embeddings, Embeddings):
            raise ConfigError(f"embeddings= is {embeddings!r}, wanted LangChain Embeddings; pass OpenAIEmbeddings().")
        if handler is not None:
            check_instance("handler", handler, Eco2CallbackHandler, "pass your handler, or leave it out")
        self._handler = handler
        self._model = _known("model", model, _field(embeddings, _MODEL_FIELDS), embeddings)
        self._provider = _known("provider", provider, _provider_of(embeddings), embeddings)
        self._base_url = _field(embeddings, _ADDRESS_FIELDS) or None
        self._embeddings = _reporting(embeddings)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        with self._measured(texts):
            return self._embeddings.embed_documents(texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        with self._measured([text]):
            return self._embeddings.embed_query(text)

    async def aembed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts."""
        with self._measured(texts):
            return await self._embeddings.aembed_documents(texts)

    async def aembed_query(self, text: str) -> list[float]:
        """Return the vector of one text."""
        with self._measured([text]):
            return await self._embeddings.aembed_query(text)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_embeddings":  # copy and pickle ask before the fields exist
            raise AttributeError(name)
        return getattr(self._embeddings, name)

    @contextmanager
    def _measured(self, texts: Sequence[str]) -> Iterator[None]:
        """Open one call on each handler, and close it with the usage that was reported or a count of the texts."""
        usages: list[dict[str, Any]] = []
        token = _usages.set(usages)
        with ExitStack() as stack:
            calls = [stack.enter_context(self._call(handler, texts)) for handler in self._handlers()]
            try:
                yield
            finally:
                _usages.reset(token)
            for call in calls:
                for usage in usages:
                    call.answered(usage)
                if not usages:
                    call.answered(_NO_USAGE)

    def _call(self, handler: Eco2CallbackHandler, texts: Sequence[str]) -> SDKCall:
        return handler.call(
            provider=self._provider,
            model=self._model,
            base_url=self._base_url,
            operation="embeddings",
            request={"input": list(texts)},
        )

    def _handlers(self) -> list[Eco2CallbackHandler]:
        if self._handler is not None:
            return [self._handler]
        handlers = get_callback_manager_for_config(ensure_config()).handlers
        return [handler for handler in handlers if isinstance(handler, Eco2CallbackHandler)]


# The usages that OpenAI's client reported during the call that this code runs in.
_usages: ContextVar[list[dict[str, Any]] | None] = ContextVar("eco2_callbacks_embedding_usages", default=None)


class _ReportingClient:
    """OpenAI's ``client.embeddings`` that notes the usage of each answer."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def create(self, *arguments: Any, **named: Any) -> Any:
        return _noted(self._client.create(*arguments, **named))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class _ReportingAsyncClient(_ReportingClient):
    """The same for the asynchronous client."""

    async def create(self, *arguments: Any, **named: Any) -> Any:
        return _noted(await self._client.create(*arguments, **named))


def _noted(answer: Any) -> Any:
    usages, usage = _usages.get(), getattr(answer, "usage", None)
    tokens = getattr(usage, "prompt_tokens", None)
    if usages is not None and isinstance(tokens, int):
        # Not the answer itself: it holds the vectors.
        model = getattr(answer, "model", None)
        usages.append(
            {"model": model, "usage": {"prompt_tokens": tokens, "completion_tokens": 0, "total_tokens": tokens}}
        )
    return answer


def _reporting(embeddings: Embeddings) -> Embeddings:
    """Return OpenAI's embeddings with clients that note the usage; others as they are.

    ``client`` and ``async_client`` are public fields of ``OpenAIEmbeddings`` and ``AzureOpenAIEmbeddings``. Tested with
    langchain-openai 1.7.
    """
    client, async_client = getattr(embeddings, "client", None), getattr(embeddings, "async_client", None)
    copy = getattr(embeddings, "model_copy", None)
    if copy is None or not type(client).__module__.startswith("openai."):
        return embeddings
    clients = {"client": _ReportingClient(client), "async_client": _ReportingAsyncClient(async_client)}
    copied: Embeddings = copy(update=clients)
    return copied


def _provider_of(embeddings: Embeddings) -> str:
    for kind in type(embeddings).__mro__:
        if (provider := _PROVIDERS.get(kind.__module__.partition(".")[0])) is not None:
            return "azure" if provider == "openai" and "Azure" in kind.__name__ else provider
    return ""


def _field(embeddings: Embeddings, names: Sequence[str]) -> str:
    values = (getattr(embeddings, name, None) for name in names)
    return next((value for value in values if isinstance(value, str) and value), "")


def _known(name: str, given: str | None, found: str, embeddings: Embeddings) -> str:
    if given is not None:
        return check_text(name, given)
    if not found:
        raise ConfigError(f"The {name} of {type(embeddings).__name__} is unknown, wanted a text; pass {name}=.")
    return found.removeprefix("models/")
