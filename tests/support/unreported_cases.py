"""Small answers whose client library leaves out a part of the bill: request, address or answer show it elsewhere.

As in ``provider_cases``, dollars are worked out from genai-prices' rates of 2026-11-29 or the built-in fees.
"""

from __future__ import annotations

from typing import Any

from tests.support.provider_cases import DECLINED, SERVED, SONAR, ProviderCase, anthropic_usage, at, tokens

__all__ = ["UNREPORTED"]

_SONNET = "claude-sonnet-4-5"
_BEDROCK_SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
_WRITTEN = tokens(1100, 100, within={"cache_creation": 1000})

_RETRIEVED = {"grounding_metadata": {"grounding_chunks": [{"retrieved_context": {"title": "t"}}]}}
_HOSTED_SHELL = {"type": "shell", "environment": {"type": "container_auto"}}
_CONTAINER = {"type": "container_reference", "container_id": "cntr_1"}
_SHELL = {"type": "shell_call", "id": "sh_1", "action": {"commands": ["ls"]}}

_SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "q"}}


class VertexTool:
    """A tool in the shape that ChatVertexAI makes of a dictionary: a protobuf message, readable as text."""

    def __str__(self) -> str:
        return 'retrieval {\n  vertex_ai_search {\n    datastore: "d"\n  }\n}\n'


def cached(text: str, lifetime: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": lifetime}}


UNREPORTED: tuple[ProviderCase, ...] = (
    # 100 x 3 + 1000 x 6 + 100 x 15
    ProviderCase(
        *("cache_hour", "anthropic", "ChatAnthropic", "cache writes without a split: the lifetime of the request's"),
        *(_SONNET, _WRITTEN, "0.0078"),
        prompt=[cached("rules", "1h")],
        chunks=[{}],
    ),
    # 100 x 3 + 1000 x 3.75 + 100 x 15
    ProviderCase(
        *("cache_minutes", "anthropic", "ChatAnthropic", "cache writes without a split, for five minutes"),
        *(_SONNET, _WRITTEN, "0.00555"),
        params={"cache_control": {"type": "ephemeral"}},
        chunks=[{}],
    ),
    ProviderCase(
        *("cache_both", "anthropic", "ChatAnthropic", "cache writes without a split, for both lifetimes"),
        *(_SONNET, _WRITTEN, "0.00555", "lost_usage"),
        prompt=[cached("rules", "1h"), cached("question", "5m")],
        chunks=[{}],
    ),
    # The text prompt is not kept; the parameters are.
    ProviderCase(
        *("cache_hour_bound", "anthropic", "ChatAnthropic", "the lifetime that a middleware binds"),
        *(_SONNET, _WRITTEN, "0.0078"),
        params={"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ),
    ProviderCase(
        *("refused_free", "anthropic", "ChatAnthropic", "a refusal before any output in a category that is not billed"),
        *("claude-fable-5", tokens(1000, 0), "0"),
        content=[],
        metadata={"stop_reason": "refusal", "stop_details": {"category": "cyber"}},
    ),
    # 1000 x 10
    ProviderCase(
        *("refused_billed", "anthropic", "ChatAnthropic", "a refusal before any output in a category that is billed"),
        *("claude-fable-5", tokens(1000, 0), "0.01"),
        content=[],
        metadata={"stop_reason": "refusal", "stop_details": {"category": "bio"}},
    ),
    # 1000 x 10 + 20 x 50
    ProviderCase(
        *("refused_midway", "anthropic", "ChatAnthropic", "a refusal after some output", "claude-fable-5"),
        *(tokens(1000, 20), "0.011"),
        metadata={"stop_reason": "refusal", "stop_details": {"category": "cyber"}},
    ),
    # 1200 x 5 + 300 x 25 = 13500; the refusal 1000 x 10
    ProviderCase(
        *("fallback_billed", "anthropic", "ChatAnthropic", "a fallback's answer beside a refusal that is billed"),
        *("claude-opus-4-8", tokens(1200, 300), "0.0235"),
        content=[{"type": "fallback", "trigger": {"category": "bio"}}, {"type": "text", "text": "a"}],
        metadata=anthropic_usage(1200, 300, iterations=[DECLINED, SERVED]),
        requested="claude-fable-5",
    ),
    # 100 x 3 + 1000 x 6 + 100 x 15
    ProviderCase(
        *("vertex_cache_hour", "anthropicvertex", "ChatAnthropicVertex", "the split of cache writes in the answer"),
        *(_SONNET, _WRITTEN, "0.0078"),
        metadata={
            "usage": {
                "input_tokens": 100,
                "output_tokens": 100,
                "cache_creation_input_tokens": 1000,
                "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 1000},
            }
        },
    ),
    # 100 x 3.3 + 1000 x 6.6 + 100 x 16.5
    ProviderCase(
        *(
            "bedrock_cache_hour",
            "amazon_bedrock",
            "ChatBedrockConverse",
            "cache writes by the ``cachePoint``",
        ),
        *(_BEDROCK_SONNET, _WRITTEN, "0.00858"),
        prompt=[{"type": "text", "text": "rules"}, {"cachePoint": {"type": "default", "ttl": "1h"}}],
    ),
    # 1000 x 0.3 + 100 x 2.5
    ProviderCase(
        *("vertex_compatible", "google_vertexai", "ChatOpenAI", "the publisher before the model's name"),
        *("google/gemini-2.5-flash", tokens(1000, 100), "0.00055"),
        ls_provider="openai",
        kwargs=at(
            "https://us-central1-aiplatform.googleapis.com/v1/projects/p/locations/us-central1/endpoints/openapi"
        ),
    ),
    # 1000 x 0.3 + 200 x 2.5: the total holds 900 tokens that the tool read.
    ProviderCase(
        *("gemini_tool_prompt", "google_vertexai", "ChatVertexAI", "what Google's own tools read, of the total"),
        *("gemini-2.5-flash", tokens(100, 100, total=1200, of_output={"reasoning": 100}), "0.0008"),
        params={"tools": [{"code_execution": {}}]},
    ),
    ProviderCase(
        *(
            "gemini_tool_prompt_counts",
            "google_vertexai",
            "ChatVertexAI",
            "what Google's own tools read, by its counts",
        ),
        *("gemini-2.5-flash", tokens(100, 200, total=1200), "0.0008"),
        metadata={"usage_metadata": {"candidates_token_count": 200, "thoughts_token_count": 0}},
        params={"tools": [{"code_execution": {}}]},
    ),
    # 100 x 0.3 + 230 x 2.5: LangChain subtracts the thoughts of a first chunk from the text of the last.
    ProviderCase(
        *("gemini_thoughts_gone", "google_genai", "ChatGoogleGenerativeAI", "streams whose last chunk has no thoughts"),
        *("gemini-2.5-flash", tokens(100, 200, total=330, of_output={"reasoning": 200}), "0.000605", "lost_usage"),
    ),
    # langchain-google-genai counts thoughts as output.
    ProviderCase(
        *(
            "gemini_3_tool_prompt",
            "google_genai",
            "ChatGoogleGenerativeAI",
            "what Google's own tools read, of the total",
        ),
        *("gemini-2.5-flash", tokens(100, 200, total=1200, of_output={"reasoning": 100}), "0.0008"),
        params={"tools": [{"url_context": {}}]},
    ),
    # 100 x 0.3 + 1100 x 2.5, all of it as output
    ProviderCase(
        *("gemini_tool_or_thoughts", "google_vertexai", "ChatVertexAI", "own tools' input that may be thoughts"),
        *("gemini-2.5-flash", tokens(100, 100, total=1200), "0.00278", "lost_usage"),
        params={"tools": [{"code_execution": {}}]},
    ),
    # A function of the application's has no such input: the rest is thoughts.
    ProviderCase(
        *("gemini_function", "google_vertexai", "ChatVertexAI", "thoughts that only the total holds"),
        *("gemini-2.5-flash", tokens(100, 100, total=1200), "0.00278"),
        params={"tools": [{"type": "function", "function": {"name": "sort"}}]},
    ),
    # Estimated: 13 x 2.5 + 1 x 10. The prompt is 6 tokens, around it 7; the answer is 1.
    ProviderCase(
        *("no_counts", "openai", "ChatOpenAI", "an answer that counts nothing", "gpt-4o", tokens(0, 0)),
        *("0.0000425", "no_usage"),
    ),
    # 13 x 2.5, estimated, + 200 x 10
    ProviderCase(
        *("no_input", "openai", "ChatOpenAI", "an answer that counts no input", "gpt-4o", tokens(0, 200)),
        *("0.0020325", "lost_usage"),
    ),
    # 1000 x 3 + 100 x 15; the answer repeats the requested name.
    ProviderCase(
        *("litellm_claude", "anthropic", "ChatLiteLLM", "the provider that the model's prefix names"),
        *("anthropic/claude-sonnet-4-5", tokens(1000, 100), "0.0045"),
        ls_provider="litellm",
    ),
    # 1000 x 2.5 + 100 x 10
    ProviderCase(
        *("litellm_bare", "openai", "ChatLiteLLM", "a name without a prefix that one vendor alone has", "gpt-4o"),
        *(tokens(1000, 100), "0.0035"),
        ls_provider="litellm",
    ),
    # 1000 x 3 + 100 x 15
    ProviderCase(
        *("litellm_bedrock", "amazon_bedrock", "ChatLiteLLM", "a profile's name behind LiteLLM's route"),
        *("bedrock/converse/global.anthropic.claude-sonnet-4-5-20250929-v1:0", tokens(1000, 100), "0.0045"),
        ls_provider="litellm",
    ),
    # 1000 x 0.3 + 100 x 2.5
    ProviderCase(
        *("litellm_gemini", "google_genai", "ChatLiteLLM", "the provider that the model's prefix names"),
        *("gemini/gemini-2.5-flash", tokens(1000, 100), "0.00055"),
        ls_provider="litellm",
    ),
    ProviderCase(
        *("litellm_unknown", "litellm", "ChatLiteLLM", "an unknown prefix, and a name that several providers have"),
        *("gpt-oss-120b", tokens(1000, 100), None, "unknown_model"),
        ls_provider="litellm",
    ),
    ProviderCase(
        *("litellm_azure", "litellm", "ChatLiteLLM", "a deployment on Azure, whose model no answer names"),
        *("azure/gpt-4o", tokens(1000, 100), None, "unknown_model"),
        ls_provider="litellm",
    ),
    ProviderCase(
        *("litellm_proxy", "self_hosted", "ChatLiteLLM", "a proxy on an unknown host"),
        *("openai/gpt-4o", tokens(1000, 100), None, "unknown_model"),
        ls_provider="litellm",
        text="ChatLiteLLM(client=None, model='openai/gpt-4o', api_base='https://llm.example.org')",
    ),
    # Never at the rates of the model whose name the deployment has.
    ProviderCase(
        *("azure_other_model", "azure", "AzureChatOpenAI", "a deployment with another model's name"),
        *("gpt-9-2026-11-20", tokens(1000, 1000), None, "unknown_model"),
        requested="gpt-4",
    ),
    ProviderCase(
        *("azure_tuned_model", "azure", "AzureChatOpenAI", "a tuned model in a deployment with another one's name"),
        *("gpt-9.1-2026-11-20.ft-abc", tokens(1000, 1000), None, "unknown_model"),
        requested="gpt-4o",
    ),
    # 300,000 x 5 + 1000 x 30; a search $0.01. Of two samplings one may have been longer than 272,000, or none.
    ProviderCase(
        *("openai_long_loop", "openai", "ChatOpenAI", "hosted-tool loops that may hold a long prompt", "gpt-5.5"),
        *(tokens(300_000, 1000), "1.54", "lost_usage"),
        content=[_SEARCH, {"type": "text", "text": "a"}],
    ),
    # 250,000 x 1.25 + 1000 x 2.5; a search $0.005
    ProviderCase(
        *("xai_long_loop", "xai", "ChatXAI", "server-tool loops that may hold a long prompt", "grok-4.3"),
        *(tokens(250_000, 1000), "0.32", "lost_usage"),
        content=[_SEARCH, {"type": "text", "text": "a"}],
    ),
    # An image alone: some models count nothing.
    ProviderCase(
        *("no_text", "openai", "ChatOpenAI", "an answer without text and counts", "gpt-4o", tokens(0, 0), "0"),
        content=[{"type": "image", "url": "https://example.org/a.png"}],
    ),
    # 1000 x 3.3 + 1000 x 16.5: the client never calls the address that it inherits.
    ProviderCase(
        *("bedrock_inherited_address", "anthropic-bedrock", "ChatAnthropicBedrock", "a profile by the requested name"),
        *(_SONNET, tokens(1000, 1000), "0.0198"),
        requested=_BEDROCK_SONNET,
        kwargs={"anthropic_api_url": "https://api.anthropic.com"},
    ),
    # The address makes Claude's own class Bedrock's; its answer names the bare model.
    ProviderCase(
        *("mantle_global", "amazon_bedrock", "ChatAnthropic", "a global profile by the requested name"),
        *(f"{_SONNET}-20250929", tokens(1000, 1000), "0.018"),
        ls_provider="anthropic",
        requested="global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        kwargs={"anthropic_api_url": "https://bedrock-mantle.us-east-1.api.aws/anthropic"},
    ),
    # 1000 x 3 + 1000 x 15
    ProviderCase(
        *("bedrock_global", "anthropic-mantle", "ChatAnthropicMantle", "a global profile by the requested name"),
        *(_SONNET, tokens(1000, 1000), "0.018"),
        requested="global.anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    ProviderCase(
        *("bedrock_application_profile", "anthropic-bedrock", "ChatAnthropicBedrock", "an application profile's name"),
        *(_SONNET, tokens(1000, 1000), None, "unknown_model"),
        requested="arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc",
    ),
    # 1000 x 5 + 1000 x 25, the standard rates
    ProviderCase(
        *("vertex_claude_fast", "anthropicvertex", "ChatAnthropicVertex", "fast mode without a rate"),
        *("claude-opus-4-8", tokens(1000, 1000), "0.03", "unpriced_unit"),
        metadata={"usage": {"input_tokens": 1000, "output_tokens": 1000, "speed": "fast"}},
    ),
    ProviderCase(
        *("vertex_claude_batch", "anthropicvertex", "ChatAnthropicVertex", "the batch tier without a rate"),
        *("claude-opus-4-8", tokens(1000, 1000), "0.03", "unpriced_unit"),
        metadata={"usage": {"input_tokens": 1000, "output_tokens": 1000, "service_tier": "batch"}},
    ),
    # 300,000 x 3 + 1000 x 15: the calls alone show that each sampling had at most the window of 200,000.
    ProviderCase(
        *("anthropic_calls_alone", "anthropic", "ChatAnthropic", "server-tool loops whose results are dropped"),
        *(_SONNET, tokens(300_000, 1000), "0.915"),
        content=[
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution"},
            {"type": "text", "text": "a"},
        ],
        chunks=[{}],
    ),
    # 1000 x 0.33 + 100 x 2.75: no rate is known for either search.
    ProviderCase(
        *("nova_grounding", "amazon_bedrock", "ChatBedrockConverse", "Nova's web grounding"),
        *("us.amazon.nova-2-lite-v1:0", tokens(1000, 100), "0.000605", "unpriced_unit"),
        content=[
            {"type": "server_tool_use", "id": "t1", "name": "nova_grounding", "input": {}},
            {"type": "text", "text": "a"},
        ],
    ),
    # 1000 x 5.5 + 100 x 33
    ProviderCase(
        *("mantle_search", "amazon_bedrock", "ChatOpenAI", "web searches"),
        *("openai.gpt-5.5", tokens(1000, 100), "0.0088", "unpriced_unit"),
        ls_provider="openai",
        kwargs=at("https://bedrock-mantle.us-east-1.api.aws/openai/v1"),
        content=[
            {"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}},
            {"type": "text", "text": "a"},
        ],
    ),
    # 100 x 3 + 300 x 15 = 4800; a fast request with a small search context $0.006
    ProviderCase(
        *("perplexity_pro_search", "perplexity", "ChatPerplexity", "a search of the type ``pro`` or ``auto``"),
        *("sonar-pro", tokens(100, 300), "0.0108", "lost_usage"),
        metadata=SONAR,
        params={"web_search_options": {"search_type": "pro", "search_context_size": "low"}},
    ),
    ProviderCase(
        *("perplexity_fast_search", "perplexity", "ChatPerplexity", "a search of the type ``fast``"),
        *("sonar-pro", tokens(100, 300), "0.0108"),
        metadata=SONAR,
        params={"web_search_options": {"search_type": "fast", "search_context_size": "low"}},
    ),
    # 1000 x 0.25 + 200 x 2.5
    ProviderCase(
        *(
            "perplexity_responses",
            "perplexity",
            "ChatPerplexity",
            "the Responses API: the fees of its tools are dropped",
        ),
        *("perplexity/sonar", tokens(1000, 200), "0.00075", "lost_usage"),
        metadata={"object": "response"},
    ),
    # 1000 x 0.8 + 100 x 3.2, the standard rates
    # ChatBedrock drops the headers that name the tier.
    ProviderCase(
        *("bedrock_flex_invoked", "amazon_bedrock", "ChatBedrock", "a service tier that the request names"),
        *("us.amazon.nova-pro-v1:0", tokens(1000, 100), "0.00112", "unpriced_unit"),
        kwargs={"service_tier": "flex"},
    ),
    ProviderCase(
        *("bedrock_latency", "amazon_bedrock", "ChatBedrockConverse", "latency-optimized inference"),
        *("us.amazon.nova-pro-v1:0", tokens(1000, 100), "0.00112", "unpriced_unit"),
        metadata={"performanceConfig": {"latency": "optimized"}},
    ),
    ProviderCase(
        *(
            "bedrock_latency_refused",
            "amazon_bedrock",
            "ChatBedrockConverse",
            "latency optimized requested, not served",
        ),
        *("us.amazon.nova-pro-v1:0", tokens(1000, 100), "0.00112"),
        metadata={"performanceConfig": {"latency": "standard"}},
        kwargs={"performance_config": {"latency": "optimized"}},
    ),
    # 1000 x 1.25 + 200 x 10 = 3250; a container $0.03
    ProviderCase(
        *("openai_shell", "openai", "ChatOpenAI", "containers of the hosted shell", "gpt-5"),
        *(tokens(1000, 200), "0.03325"),
        content=[
            {"type": "non_standard", "value": {**_SHELL, "environment": _CONTAINER}},
            {"type": "text", "text": "a"},
        ],
        params={"tools": [_HOSTED_SHELL]},
    ),
    ProviderCase(
        *("openai_shell_dropped", "openai", "ChatOpenAI", "a hosted shell whose calls are dropped", "gpt-5"),
        *(tokens(1000, 200), "0.00325", "lost_usage"),
        params={"tools": [_HOSTED_SHELL]},
    ),
    ProviderCase(
        *("openai_shell_named", "openai", "ChatOpenAI", "a hosted shell in a container of the request's", "gpt-5"),
        *(tokens(1000, 200), "0.00325"),
        content=[{**_SHELL, "environment": _CONTAINER}, {"type": "text", "text": "a"}],
        params={"tools": [{"type": "shell", "environment": _CONTAINER}]},
    ),
    ProviderCase(
        *(
            "openai_own_shell",
            "openai",
            "ChatOpenAI",
            "a shell of the user's own",
            "gpt-5",
            tokens(1000, 200),
            "0.00325",
        ),
        content=[{**_SHELL, "environment": {"type": "local"}}, {"type": "text", "text": "a"}],
        params={"tools": [{"type": "shell", "environment": {"type": "local"}}]},
    ),
    # 1000 x 1.25 + 200 x 2.5
    ProviderCase(
        *("xai_live_search", "xai", "ChatXAI", "sources of Live Search", "grok-4.3", tokens(1000, 200)),
        *("0.00175", "lost_usage"),
        metadata={"token_usage": {"prompt_tokens": 1000, "completion_tokens": 200, "num_sources_used": 4}},
    ),
    ProviderCase(
        *("xai_live_search_stream", "xai", "ChatXAI", "a stream that Live Search may have fed", "grok-4.3"),
        *(tokens(1000, 200), "0.00175", "lost_usage"),
        kwargs={"search_parameters": {"mode": "auto"}},
        chunks=[{}],
    ),
    # 1000 x 0.15 + 200 x 0.6
    ProviderCase(
        *("groq_tools", "groq", "ChatGroq", "tools that Groq executed", "openai/gpt-oss-120b", tokens(1000, 200)),
        *("0.00027", "unpriced_unit"),
        more={"executed_tools": [{"index": 0, "type": "browser_search", "name": "browser.search"}]},
    ),
    # 1000 x 0.3 + 200 x 2.5 = 800; $0.035 for Google Search; the enterprise's search has another fee
    ProviderCase(
        *("vertex_enterprise_search", "google_vertexai", "ChatVertexAI", "Web Grounding for Enterprise"),
        *("gemini-2.5-flash", tokens(1000, 200), "0.0358", "lost_usage"),
        metadata={"grounding_metadata": {"web_search_queries": ["a", "b"]}},
        params={"tools": [{"enterprise_web_search": {}}]},
    ),
    ProviderCase(
        *("vertex_search", "google_vertexai", "ChatVertexAI", "grounding by Vertex AI Search"),
        *("gemini-2.5-flash", tokens(1000, 200), "0.0008", "unpriced_unit"),
        metadata=_RETRIEVED,
        params={"tools": [{"retrieval": {"vertex_ai_search": {"datastore": "d"}}}]},
    ),
    ProviderCase(
        *("gemini_file_search", "google_genai", "ChatGoogleGenerativeAI", "Gemini's file search is free"),
        *("gemini-2.5-flash", tokens(1000, 200), "0.0008"),
        metadata=_RETRIEVED,
        params={"tools": [{"file_search": {"file_search_store_names": ["s"]}}]},
    ),
    ProviderCase(
        *("vertex_search_own_type", "google_vertexai", "ChatVertexAI", "Vertex AI Search in Vertex AI's own type"),
        *("gemini-2.5-flash", tokens(1000, 200), "0.0008", "unpriced_unit"),
        metadata=_RETRIEVED,
        params={"tools": [VertexTool()]},
    ),
    # 1000 x 1 + 200 x 1; the lowest fee of a request $0.005. LiteLLM's name is another model's of the same provider.
    ProviderCase(
        *("litellm_sonar", "perplexity", "ChatLiteLLM", "the fee of a request: the size of its search is dropped"),
        *("perplexity/sonar", tokens(1000, 200), "0.0062", "lost_usage"),
        ls_provider="litellm",
    ),
    # (1000 x 5 + 1000 x 25) x 2
    ProviderCase(
        *("anthropic_extra_body", "anthropic", "ChatAnthropic", "of a stream, ``speed`` as ``extra_body`` requests it"),
        *("claude-opus-4-8", tokens(1000, 1000), "0.06"),
        params={"extra_body": {"speed": "fast"}},
        chunks=[{}],
    ),
    # (1000 x 0.5 + 500 x 0.05 + 100 x 1.5) x 1.1
    ProviderCase(
        *("mistral_region", "mistral", "ChatMistralAI", "regional hosts with their uplift of 10 %"),
        *("mistral-large-2512", tokens(1500, 100, within={"cache_read": 500}), "0.0007425"),
        kwargs={"endpoint": "https://api.eu.mistral.ai/v1"},
    ),
    # 1000 x 3 + 100 x 15 = 4500, by 1.1
    ProviderCase(
        *("xai_us", "xai", "ChatXAI", "the host of the US with its uplift of 10 %"),
        *("grok-3", tokens(1000, 100), "0.00495"),
        kwargs={"xai_api_base": "https://us.api.x.ai/v1"},
    ),
    # 1000 x 0.6 + 100 x 3 at the standard rates: there is no public one of the tier.
    ProviderCase(
        *("fireworks_priority", "fireworks", "ChatFireworks", "the tier that the request names"),
        *("accounts/fireworks/models/kimi-k2p5", tokens(1000, 100), "0.0009", "unpriced_unit"),
        params={"service_tier": "priority"},
    ),
    ProviderCase(
        *("fireworks_standard", "fireworks", "ChatFireworks", "the standard tier"),
        *("accounts/fireworks/models/kimi-k2p5", tokens(1000, 100), "0.0009"),
        params={"service_tier": "default"},
    ),
    # 1000 x 0.3 + 200 x 2.5 at the standard rates
    ProviderCase(
        *("vertex_flex_header", "google_vertexai", "ChatGoogleGenerativeAI", "the tier that a header requests"),
        *("gemini-2.5-flash", tokens(1000, 200), "0.0008", "unpriced_unit"),
        ls_provider="google_genai",
        kwargs={"vertexai": True, "additional_headers": {"X-Vertex-AI-LLM-Shared-Request-Type": "flex"}},
    ),
    ProviderCase(
        *("openrouter_region", "openrouter", "ChatOpenRouter", "the stated cost of a regional host"),
        *("openai/gpt-4o", tokens(1000, 100), "0.004"),
        metadata={"cost": 0.004},
        kwargs={"openrouter_api_base": "https://eu.openrouter.ai/api/v1"},
    ),
)
