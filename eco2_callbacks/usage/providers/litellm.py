"""Finds who serves a model of ChatLiteLLM: the prefix of its name says it, or a name that one provider alone has."""

from __future__ import annotations

from functools import lru_cache

from eco2_callbacks.forks import importing

__all__ = ["LITELLM", "seller_of", "without_prefix"]

LITELLM = "litellm"
# LiteLLM's prefixes: https://docs.litellm.ai/docs/providers. Not azure: a deployment can have any name, and the
# answer repeats it.
_PREFIXES = {
    "anthropic": "anthropic",
    "baseten": "baseten",
    "bedrock": "amazon_bedrock",
    "cerebras": "cerebras",
    "cloudflare": "cloudflare",
    "cohere": "cohere",
    "cohere_chat": "cohere",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "fireworks_ai": "fireworks",
    "gemini": "google_genai",
    "groq": "groq",
    "hosted_vllm": "vllm",
    "lm_studio": "lmstudio",
    "minimax": "minimax",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "novita": "novita",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "openai": "openai",
    "openrouter": "openrouter",
    "ovhcloud": "ovhcloud",
    "perplexity": "perplexity",
    "together_ai": "together",
    "vertex_ai": "google_vertexai",
    "xai": "xai",
    "zai": "zai",
}
# A name without a prefix, by genai-prices' provider; LiteLLM sends Gemini's to Vertex AI.
_BARE = {"anthropic": "anthropic", "cohere": "cohere", "google": "google_vertexai", "openai": "openai"}
_OPEN_MODEL = "oss"
_CLAUDE = "claude"


@lru_cache(maxsize=256)
def seller_of(model: str) -> str:
    """Return LangChain's name of who serves a model; ``litellm`` for an unknown prefix and a doubtful name."""
    prefix, slash, name = model.partition("/")
    if slash:
        provider = _PREFIXES.get(prefix, LITELLM)
        return "anthropicvertex" if provider == "google_vertexai" and name.startswith(_CLAUDE) else provider
    if _OPEN_MODEL in model:
        return LITELLM
    with importing.held:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

        providers = get_snapshot().providers
    found = [each for each in providers if each.model_match is not None and each.model_match.is_match(model)]
    if len(found) != 1 or found[0].find_model(model) is None:
        return LITELLM
    return _BARE.get(found[0].id, LITELLM)


def without_prefix(model: str) -> str:
    """Return the provider's own name of a model; Bedrock's has LiteLLM's route before it too."""
    prefix, _, name = model.partition("/")
    if prefix not in _PREFIXES:
        return model
    return name.rpartition("/")[2] if prefix == "bedrock" else name
