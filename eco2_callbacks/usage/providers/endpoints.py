"""Finds who serves a model by the address that it calls."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from eco2_callbacks.forks import importing

__all__ = ["SELF_HOSTED", "Endpoint", "base_url_of", "endpoint_at", "is_sold_by"]

SELF_HOSTED = "self_hosted"
# The constructor arguments that name an address, in the official models.
_URL_KEYS = (
    *("openai_api_base", "base_url", "azure_endpoint", "anthropic_api_url", "xai_api_base", "groq_api_base"),
    *("openrouter_api_base", "fireworks_api_base", "together_api_base", "mistral_base_url", "api_base", "endpoint"),
    "endpoint_url",
)
# The address in the text of a model that LangChain does not serialize.
_URL_IN_TEXT = re.compile(r"\b(?:{})='(https?://[^']+)'".format("|".join(_URL_KEYS)))
# ChatOpenAI reads the first, its client library the second.
_OPENAI_VARIABLES = ("OPENAI_API_BASE", "OPENAI_BASE_URL")
# LangChain's names where they differ from genai-prices'.
_LANGCHAIN_NAMES = {"x-ai": "xai", "aws": "amazon_bedrock", "google": "google_genai"}
# Addresses that genai-prices' patterns lack.
_MORE_HOSTS = (
    (re.compile(r"https?://(?:[a-z0-9-]+\.)?api\.openai\.com(?::|/|$)"), "openai"),
    (re.compile(r"https?://api\.together\.ai(?::|/|$)"), "together"),
    (re.compile(r"https?://(?:[a-z0-9-]+\.)?api\.x\.ai(?::|/|$)"), "xai"),
    (re.compile(r"https?://api\.[a-z]+\.mistral\.ai(?::|/|$)"), "mistral"),
    (re.compile(r"https?://[a-z]+\.openrouter\.ai(?::|/|$)"), "openrouter"),
    # A private endpoint has a name of its own before the service's.
    (re.compile(r"https?://(?:vpce-[a-z0-9-]+\.)?bedrock-(?:mantle|runtime)[.-]"), "amazon_bedrock"),
    (re.compile(r"https?://(?:[^/]+[.-])?aiplatform(?:\.[a-z]+\.rep)?\.googleapis\.com"), "google_vertexai"),
    (re.compile(r"https?://(?:[^/]+\.)?ollama\.com(?::|/|$)"), "ollama"),
    (re.compile(r"https?://(?:[^/]+\.)?(?:openai\.azure|services\.ai\.azure|cognitiveservices\.azure)\."), "azure"),
)
# The region before the host, or inside it.
_REGION = re.compile(r"https?://(?:([a-z0-9-]+)\.api\.(?:openai\.com|x\.ai)|api\.([a-z]+)\.mistral\.ai)")
# Only these can serve their models: a loopback address is then a proxy in front of them, or a stand-in of a test.
# OpenAI's open models are named "oss".
_CLOSED = frozenset(
    {"openai", "azure", "anthropic", "openrouter", "xai", "perplexity", "google_genai", "google_vertexai"}
)
_OPEN_MODEL = "oss"
_FINE_TUNED = "ft:"


class Endpoint(NamedTuple):
    """Who serves a model.

    Attributes:
        provider: LangChain's or genai-prices' name; ``self_hosted`` for an unknown host.
        region: Of a regional endpoint; ``""`` for a global one.
        is_local: Whether the host is this machine or lies in a private network.
    """

    provider: str
    region: str = ""
    is_local: bool = False


def base_url_of(provider: str, serialized: Mapping[str, Any], model_kwargs: Mapping[str, Any]) -> str | None:
    """Return the address that a model calls, as far as it shows; None for its own default.

    A ``client=`` of the user's own does not show.
    """
    if provider == "anthropic-bedrock":
        # The class inherits ChatAnthropic's address, which its client never calls.
        return os.environ.get("ANTHROPIC_BEDROCK_BASE_URL")
    for key in _URL_KEYS:
        if isinstance(url := model_kwargs.get(key), str) and url:
            return url
    text = serialized.get("repr")
    if isinstance(text, str) and (found := _URL_IN_TEXT.search(text)):
        return found[1]
    if provider == "openai":
        return next((url for name in _OPENAI_VARIABLES if (url := os.environ.get(name))), None)
    return None


def endpoint_at(url: str, provider: str) -> Endpoint:
    """Return who serves at an address, for a model of LangChain's class for ``provider``."""
    url = url if "://" in url else f"https://{url}"
    for pattern, name in _MORE_HOSTS:
        if pattern.match(url):
            region = _REGION.match(url)
            return Endpoint(_name_of(name, provider), region="" if region is None else region[1] or region[2])
    with importing.held:  # most models have no address of their own
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

        providers = get_snapshot().providers
    for known in providers:
        if re.match(known.api_pattern, url) is not None:
            return Endpoint(_name_of(known.id, provider))
    is_local, is_loopback = _locality(url)
    if is_loopback and provider in _CLOSED:
        return Endpoint(provider, is_local=True)
    return Endpoint(SELF_HOSTED, is_local=is_local)


def is_sold_by(provider: str, model: str) -> bool:
    """Return whether only this provider can have served the model, wherever the address points."""
    if provider != "openai" or model.startswith(_FINE_TUNED):
        return True  # Azure's deployments have any name
    with importing.held:
        from genai_prices.data_snapshot import find_provider_by_id, get_snapshot  # noqa: PLC0415

        providers = get_snapshot().providers
    seller = find_provider_by_id(providers, "openai")
    return seller is not None and _OPEN_MODEL not in model and seller.find_model(model) is not None


def _name_of(known: str, provider: str) -> str:
    """Return LangChain's name of who serves; a name of the same seller that says more is kept."""
    kept = {
        "amazon_bedrock": ("amazon_bedrock_converse", "anthropic-bedrock", "anthropic-mantle", "openai-mantle"),
        "google": ("google_genai", "google_vertexai", "anthropicvertex", "google_anthropic_vertex"),
        "google_vertexai": ("anthropicvertex", "google_anthropic_vertex"),
        # Azure serves Claude at Anthropic's own prices.
        "azure": ("anthropic",),
    }
    return provider if provider in kept.get(known, ()) else _LANGCHAIN_NAMES.get(known, known)


def _locality(url: str) -> tuple[bool, bool]:
    """Return whether a host lies in a private network, and whether it is this machine."""
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:
        return False, False
    if host == "localhost" or host.endswith(".localhost"):
        return True, True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name without a dot is a container's or a machine's of the same network.
        return host.endswith(".local") or (bool(host) and "." not in host), False
    return address.is_loopback or address.is_private or address.is_link_local, address.is_loopback
