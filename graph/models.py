"""The chat models, each made here and nowhere else."""

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
from langchain_openai import ChatOpenAI

from graph.errors import GraphConfigError

__all__ = ["Provider", "chat", "check", "provider", "with_images", "with_search"]

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
# Those that talk to a model in every application; whoever draws no picture needs no key for it.
_NODES = (
    *("intent", "vision", "waste_rag", "feedback", "character", "location", "web_search", "bulk_waste"),
    *("recyclable_price", "weather", "collection_point", "general", "answer", "summarize"),
)
# Gemini tells what a picture cost, OpenAI's image tool does not.
_PICTURES = "image_generation"
# What the SDKs read when a model is made.
_READ_BY_SDKS = ("GEMINI_", "GOOGLE_", "OPENAI_")
# A model takes tens of milliseconds to make. Its connections belong to the event loop that opened them.
_made: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[object, BaseChatModel]] = WeakKeyDictionary()


def provider(node: str) -> Provider:
    """Return whose models a node uses: ``ECO2_PROVIDER_<NODE>``, else ``ECO2_PROVIDER``, else OpenAI's.

    Pictures are Gemini's unless ``ECO2_PROVIDER_IMAGE_GENERATION`` says otherwise.

    Raises:
        GraphConfigError: If the setting is neither ``openai`` nor ``google``.
    """
    own = f"ECO2_PROVIDER_{node.upper()}"
    for setting in (own,) if node == _PICTURES else (own, "ECO2_PROVIDER"):
        if value := os.environ.get(setting, "").strip():
            if value not in _KEYS:
                raise GraphConfigError(f"{setting} is {value!r}, wanted 'openai' or 'google'; correct it or unset it.")
            return cast("Provider", value)
    return "google" if node == _PICTURES else "openai"


def chat(node: str, **options: Any) -> BaseChatModel:
    """Return the chat model of a node; equal ones are made once for an event loop.

    Args:
        node: The node's name.
        options: Constructor arguments of the provider's model, over the defaults.

    Raises:
        GraphConfigError: If the provider is unknown or its key is missing.
    """
    name = provider(node)
    if name == "openai":
        # With a base URL of one's own LangChain would not ask for a stream's usage.
        return _make(name, {"model": _setting("ECO2_OPENAI_MODEL"), "stream_usage": True} | options)
    return _make(name, {"model": _setting("ECO2_GOOGLE_MODEL")} | options)


def check() -> None:
    """Make the model of every node but that for pictures, so that a wrong setting is known before a request needs it.

    Raises:
        GraphConfigError: If a provider is unknown or its key is missing.
    """
    for node in _NODES:
        chat(node)


def with_search(node: str) -> Model:
    """Return the node's model with its provider's own web search: the provider searches, within one call."""
    search: dict[str, Any] = {"type": "web_search"} if provider(node) == "openai" else {"google_search": {}}
    return chat(node).bind_tools([search])


def with_images(node: str) -> Model:
    """Return a model that answers with pictures: Gemini's own image model, or OpenAI's with its image tool."""
    if provider(node) == "openai":
        return chat(node).bind_tools([{"type": "image_generation"}])
    return chat(node, model=_setting("ECO2_IMAGE_MODEL"), response_modalities=["TEXT", "IMAGE"])


def _make(name: Provider, options: dict[str, Any]) -> BaseChatModel:
    if not _has_key(name):
        wanted = " or ".join(_KEYS[name])
        raise GraphConfigError(f"{wanted} is unset, wanted a key for provider {name!r}; set it or ECO2_PROVIDER.")
    make = ChatOpenAI if name == "openai" else ChatGoogleGenerativeAI
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return make(**options)
    read = sorted(item for item in os.environ.items() if item[0].startswith(_READ_BY_SDKS))
    key = (name, repr(sorted(options.items())), tuple(read))
    models = _made.setdefault(loop, {})
    if key not in models:
        models[key] = make(**options)
    return models[key]


def _has_key(name: Provider) -> bool:
    # On Vertex AI the machine's own credentials stand for a key.
    vertex = name == "google" and os.environ.get("GOOGLE_GENAI_USE_VERTEXAI", "").strip().lower() in {"true", "1"}
    return vertex or any(os.environ.get(key, "").strip() for key in _KEYS[name])


def _setting(name: str) -> str:
    return os.environ.get(name, "").strip() or _DEFAULTS[name]
