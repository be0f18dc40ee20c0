"""served_model: the address that a model calls decides who is paid."""

from __future__ import annotations

from typing import Any

import pytest

from eco2_callbacks.usage import request_model, served_model


def served(
    url: str | None, *, ls_provider: str = "openai", model: str = "gpt-5.2", key: str = "openai_api_base"
) -> Any:
    kwargs = {} if url is None else {key: url}
    return served_model({"ls_provider": ls_provider, "ls_model_name": model}, {"kwargs": kwargs})


@pytest.mark.parametrize(
    ("url", "provider"),
    [
        ("https://api.openai.com/v1", "openai"),
        ("https://us.api.openai.com/v1", "openai"),
        ("https://eco2.openai.azure.com/openai/v1/", "azure"),
        ("https://eco2.services.ai.azure.com/models", "azure"),
        ("https://api.groq.com/openai/v1", "groq"),
        ("https://api.deepseek.com", "deepseek"),
        ("https://openrouter.ai/api/v1", "openrouter"),
        ("https://api.cerebras.ai/v1", "cerebras"),
        ("https://api.moonshot.ai/v1", "moonshotai"),
        ("https://api.z.ai/api/paas/v4", "zai"),
        ("https://api.together.xyz/v1", "together"),
        ("https://api.together.ai/v1", "together"),
        ("https://api.x.ai/v1", "xai"),
        ("https://us.api.x.ai/v1", "xai"),
        ("https://us.api.x.ai.example.org/v1", "self_hosted"),
        ("https://eu.openrouter.ai/api/v1", "openrouter"),
        ("https://api.eu.mistral.ai/v1", "mistral"),
        ("https://api.perplexity.ai", "perplexity"),
        ("https://api.mistral.ai/v1/chat/completions#stream", "mistral"),
        ("https://bedrock-mantle.us-east-1.api.aws/openai/v1", "amazon_bedrock"),
        ("https://bedrock-runtime.us-east-1.amazonaws.com", "amazon_bedrock"),
        ("https://vpce-0abc-1d2e.bedrock-runtime.us-east-1.vpce.amazonaws.com", "amazon_bedrock"),
        ("https://vpce-0abc-1d2e-us-east-1a.bedrock-mantle.us-east-1.vpce.amazonaws.com", "amazon_bedrock"),
        ("https://bedrock-runtime", "self_hosted"),
        ("https://vpce-0abc.example.org/bedrock-runtime.us-east-1", "self_hosted"),
        ("https://generativelanguage.googleapis.com/v1beta/openai/", "google_genai"),
        ("https://us-central1-aiplatform.googleapis.com/v1", "google_vertexai"),
        ("https://ollama.com/v1", "ollama"),
        ("https://llm.example.org/v1", "self_hosted"),
        ("http://10.0.0.7:8000/v1", "self_hosted"),
        ("http://vllm:8000/v1", "self_hosted"),
        ("http://[::1", "self_hosted"),
        ("no address", "self_hosted"),
    ],
)
def test_a_host_names_the_provider(url: str, provider: str) -> None:
    """A known host is its provider; an unknown one is never OpenAI."""
    assert served(url).provider == provider


@pytest.mark.parametrize(
    ("ls_provider", "model", "provider", "self_hosted"),
    [
        ("openai", "gpt-5.2", "openai", False),
        ("openai", "gpt-oss-120b", "self_hosted", True),
        ("openai", "llama-3.3-70b", "self_hosted", True),
        ("openai", "ft:gpt-4.1-mini:acme::1", "openai", False),
        ("azure", "our-deployment", "azure", False),
        ("anthropic", "claude-opus-4-8", "anthropic", False),
        ("mistral", "mistral-small-latest", "self_hosted", True),
    ],
)
def test_a_loopback_address_is_a_proxy_for_models_that_only_their_vendor_serves(
    ls_provider: str, model: str, provider: str, self_hosted: bool
) -> None:
    """A closed model behind 127.0.0.1 is its vendor's; an open one is served by the machine itself."""
    found = served("http://127.0.0.1:8000/v1", ls_provider=ls_provider, model=model, key="base_url")

    assert (found.provider, found.is_self_hosted) == (provider, self_hosted)


@pytest.mark.parametrize("variable", ["OPENAI_BASE_URL", "OPENAI_API_BASE"])
def test_the_environment_names_the_address_of_openais_class(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables count for ChatOpenAI without an address of its own, and are read when a model is first seen."""
    monkeypatch.setenv(variable, "https://api.groq.com/openai/v1")
    serialized: dict[str, Any] = {"kwargs": {}}

    first = served_model({"ls_provider": "openai"}, serialized)
    other = served("https://api.deepseek.com")
    monkeypatch.delenv(variable)

    assert first.provider == "groq"
    assert other.provider == "deepseek"
    assert served_model({"ls_provider": "openai"}, serialized) is first
    assert served_model({"ls_provider": "anthropic"}, {"kwargs": {}}).provider == "anthropic"


def test_an_address_is_read_from_the_text_of_a_model_that_is_not_serialized() -> None:
    """ChatDeepSeek and others show their address in their text only."""
    serialized = {
        "type": "not_implemented",
        "repr": "ChatDeepSeek(model_name='x', api_base='http://127.0.0.1:8000/v1')",
    }

    assert served_model({"ls_provider": "deepseek"}, serialized).provider == "self_hosted"


@pytest.mark.parametrize(
    "serialized",
    [None, {}, {"kwargs": None}, {"kwargs": {"openai_api_base": 7}}, {"kwargs": {}, "repr": 7}],
    ids=["none", "empty", "no_kwargs", "no_text", "repr"],
)
def test_without_an_address_langchains_name_holds(serialized: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing readable leaves LangChain's ls_provider."""
    for variable in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(variable, raising=False)

    assert served_model({"ls_provider": "openai"}, serialized).provider == "openai"


def test_bedrocks_anthropic_client_calls_only_its_own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """ChatAnthropicBedrock's inherited address decides nothing; the variable that its client reads does."""
    inherited = {"ls_provider": "anthropic-bedrock", "key": "anthropic_api_url"}
    monkeypatch.delenv("ANTHROPIC_BEDROCK_BASE_URL", raising=False)
    assert served("https://gateway.example.org", **inherited).provider == "anthropic-bedrock"

    monkeypatch.setenv("ANTHROPIC_BEDROCK_BASE_URL", "https://gateway.example.org")
    assert served("https://api.anthropic.com", **inherited).provider == "self_hosted"


@pytest.mark.parametrize(
    ("model", "provider", "requested"),
    [
        ("anthropic/claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("vertex_ai/claude-sonnet-4-5", "anthropicvertex", "claude-sonnet-4-5"),
        ("vertex_ai/gemini-2.5-flash", "google_vertexai", "gemini-2.5-flash"),
        ("together_ai/meta-llama/Llama-3.3-70B", "together", "meta-llama/Llama-3.3-70B"),
        ("bedrock/us.amazon.nova-pro-v1:0", "amazon_bedrock", "us.amazon.nova-pro-v1:0"),
        ("ollama/gemma3:1b", "ollama", "gemma3:1b"),
        ("minimax/MiniMax-M2", "minimax", "MiniMax-M2"),
        ("hosted_vllm/Qwen/Qwen3-8B", "vllm", "Qwen/Qwen3-8B"),
        ("claude-sonnet-4-5", "anthropic", "claude-sonnet-4-5"),
        ("nobody/claude-sonnet-4-5", "litellm", "nobody/claude-sonnet-4-5"),
        ("our-model", "litellm", "our-model"),
        ("gpt-oss-120b", "litellm", "gpt-oss-120b"),
    ],
)
def test_a_model_of_litellm_names_who_serves_it(model: str, provider: str, requested: str) -> None:
    """The prefix is the provider, and a name without one if only one vendor has it; one object can call several."""
    metadata, serialized = {"ls_provider": "litellm", "ls_model_name": model}, {"kwargs": {}}
    other = {"ls_provider": "litellm", "ls_model_name": "xai/grok-4.3"}

    assert served_model(metadata, serialized).provider == provider
    assert served_model(other, serialized).provider == "xai"
    assert request_model(metadata, {}) == requested


def test_a_router_of_litellm_has_names_of_its_own() -> None:
    """ChatLiteLLMRouter's model is a group of deployments, whatever its name."""
    metadata = {"ls_provider": "litellm", "ls_model_name": "gpt-4o"}

    assert served_model(metadata, {"id": ["langchain_litellm", "ChatLiteLLMRouter"]}).provider == "litellm"
