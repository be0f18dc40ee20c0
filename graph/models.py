"""Creates the chat models and the embeddings. No other module does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI, OpenAIEmbeddings

from eco2_callbacks import MeasuredEmbeddings
from graph.errors import GraphConfigError

__all__ = ["Provider", "chat", "check", "embeddings", "provider", "with_images", "with_search"]

Provider: TypeAlias = Literal["openai", "google"]
Model: TypeAlias = Runnable[LanguageModelInput, AIMessage]

_DEFAULTS: Mapping[str, str] = MappingProxyType(
    {
        "ECO2_OPENAI_MODEL": "gpt-5.2",
        "ECO2_GOOGLE_MODEL": "gemini-3-flash-preview",
        "ECO2_IMAGE_MODEL": "gemini-3-pro-image-preview",
    }
)
_KEYS: Mapping[Provider, tuple[str, ...]] = MappingProxyType(
    {"openai": ("OPENAI_API_KEY",), "google": ("GOOGLE_API_KEY", "GEMINI_API_KEY")}
)
# Nodes that every deployment needs a model for. Image generation is left out: it may stay without a key.
_NODES = (
    *("intent", "vision", "waste_rag", "feedback", "character", "location", "web_search", "bulk_waste"),
    *("recyclable_price", "weather", "collection_point", "general", "answer", "summarize"),
)
# Defaults to Gemini, which reports the usage of images; OpenAI's image tool does not.
_IMAGES = "image_generation"
# Prefixes of the variables that the SDKs read when a model is created.
_SDK_PREFIXES = ("GEMINI_", "GOOGLE_", "OPENAI_")
# Creating a model takes tens of milliseconds. Its connections belong to the event loop that opened them.
_cache: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, BaseChatModel]] = WeakKeyDictionary()


def provider(node: str) -> Provider:
    """Return a node's provider: ``ECO2_PROVIDER_<NODE>``, else ``ECO2_PROVIDER``, else OpenAI.

    Images come from Gemini unless ``ECO2_PROVIDER_IMAGE_GENERATION`` says otherwise.

    Raises:
        GraphConfigError: If the setting is neither ``openai`` nor ``google``.
    """
    node_setting = f"ECO2_PROVIDER_{node.upper()}"
    for setting in (node_setting,) if node == _IMAGES else (node_setting, "ECO2_PROVIDER"):
        if value := os.environ.get(setting, "").strip():
            if value not in _KEYS:
                raise GraphConfigError(f"{setting} is {value!r}, wanted 'openai' or 'google'; correct it or unset it.")
            return cast("Provider", value)
    return "google" if node == _IMAGES else "openai"


def chat(node: str, **options: Any) -> BaseChatModel:
    """Return the chat model of a node. Equal models are created once per event loop.

    Args:
        node: The node's name.
        options: Constructor arguments of the provider's model; they override the defaults.

    Raises:
        GraphConfigError: If the provider is unknown or its key is missing.
    """
    name = provider(node)
    if name == "openai":
        # LangChain does not request a stream's usage if a custom base URL is set.
        return _create(name, {"model": _setting("ECO2_OPENAI_MODEL"), "stream_usage": True} | options)
    return _create(name, {"model": _setting("ECO2_GOOGLE_MODEL")} | options)


def check() -> None:
    """Create the model of every node except image generation, to find invalid settings before the first request.

    Raises:
        GraphConfigError: If a provider is unknown or its key is missing.
    """
    for node in _NODES:
        chat(node)
    embeddings()


def embeddings() -> MeasuredEmbeddings | None:
    """Return the embeddings of OpenAI's model ``ECO2_RAG_EMBEDDINGS``, which report their cost; None where it is unset.

    Raises:
        GraphConfigError: If OpenAI's key is missing.
    """
    model = os.environ.get("ECO2_RAG_EMBEDDINGS", "").strip()
    if not model:
        return None
    if not _has_key("openai"):
        raise GraphConfigError(
            f"OPENAI_API_KEY is unset, wanted a key for ECO2_RAG_EMBEDDINGS={model!r}; set it or unset the model."
        )
    # The rules are short; checking their length would download a vocabulary.
    return MeasuredEmbeddings(OpenAIEmbeddings(model=model, check_embedding_ctx_length=False))


def with_search(node: str) -> Model:
    """Return the node's model with its provider's built-in web search. The provider searches within one call."""
    search: dict[str, Any] = {"type": "web_search"} if provider(node) == "openai" else {"google_search": {}}
    return chat(node).bind_tools([search])


def with_images(node: str) -> Model:
    """Return a model that generates images: Gemini's image model, or OpenAI's model with its image tool."""
    if provider(node) == "openai":
        return chat(node).bind_tools([{"type": "image_generation"}])
    return chat(node, model=_setting("ECO2_IMAGE_MODEL"), response_modalities=["TEXT", "IMAGE"])


def _create(name: Provider, options: dict[str, Any]) -> BaseChatModel:
    if not _has_key(name):
        wanted = " or ".join(_KEYS[name])
        raise GraphConfigError(f"{wanted} is unset, wanted a key for provider {name!r}; set it or ECO2_PROVIDER.")
    create = ChatOpenAI if name == "openai" else ChatGoogleGenerativeAI
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return create(**options)
    sdk_settings = sorted(item for item in os.environ.items() if item[0].startswith(_SDK_PREFIXES))
    key = (name, repr(sorted(options.items())), tuple(sdk_settings))
    models = _cache.setdefault(loop, {})
    if key not in models:
        models[key] = create(**options)
    return models[key]


def _has_key(name: Provider) -> bool:
    # Vertex AI uses the machine's credentials instead of a key.
    vertex = name == "google" and os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").strip().lower() in {"true", "1"}
    return vertex or any(os.environ.get(key, "").strip() for key in _KEYS[name])


def _setting(name: str) -> str:
    return os.environ.get(name, "").strip() or _DEFAULTS[name]
