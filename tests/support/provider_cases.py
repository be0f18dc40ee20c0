"""Small answers of each provider, as its official model hands them on, with their cost; docs/providers.md lists them.

The bodies are written here after the documented wire shapes. Dollars are worked out in the comment of each case, from
genai-prices' rates of 2026-11-29 or from the fees in ``builtin_fees.toml``.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LLMCall
from tests.support.record_sink import Records

__all__ = [
    "CASES",
    "DECLINED",
    "INVISIBLE",
    "SERVED",
    "SONAR",
    "ProviderCase",
    "anthropic_usage",
    "at",
    "bill",
    "play",
    "tokens",
]

_AT = datetime(2026, 11, 29, 18, tzinfo=UTC)


@dataclass(frozen=True)
class ProviderCase:
    """One answer.

    Attributes:
        name: Of the case.
        provider: Who is paid, as the record must name it.
        client: LangChain's class.
        promise: What is exact, or what the mark says.
        usd: The dollars; None where there are none.
        mark: The record's ``estimate_reason`` or ``unpriced_reason``; None where the bill is exact.
        ls_provider: LangChain's ``ls_provider``; by default the provider.
        chunks: The usage of each streamed chunk.
        prompt: The content of the message sent.
        requested: The requested model; by default the one that answers.
        more: The answer's ``additional_kwargs``.
        text: The model's ``repr``, for a class that LangChain does not serialize.
    """

    name: str
    provider: str
    client: str
    promise: str
    model: str
    usage: Mapping[str, Any] | None
    usd: str | None
    mark: str | None = None
    ls_provider: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    content: str | Sequence[Any] = "fine"
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    chunks: Sequence[Mapping[str, Any]] = ()
    prompt: str | Sequence[Any] = "Where does a bottle go?"
    requested: str | None = None
    more: Mapping[str, Any] = field(default_factory=dict)
    text: str | None = None

    @property
    def kind(self) -> Literal["exact", "marked"]:
        return "exact" if self.mark is None else "marked"


def bill(case: ProviderCase) -> LLMCall:
    """Return the record of a case's call."""
    records = Records()
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records], now=lambda: _AT)
    play(case, handler)
    handler.flush()
    return records.call


def play(case: ProviderCase, handler: Eco2CallbackHandler) -> None:
    """Fire the callbacks of a case's call."""
    message = AIMessage(
        content=case.content,  # type: ignore[arg-type]
        usage_metadata=case.usage,  # type: ignore[arg-type]
        response_metadata={"model_name": case.model, **case.metadata},
        additional_kwargs=dict(case.more),
    )
    run_id = uuid.uuid4()
    serialized: dict[str, Any] = {"lc": 1, "type": "constructor", "id": ["langchain", case.client]}
    serialized |= {"kwargs": dict(case.kwargs)} if case.text is None else {"repr": case.text}
    handler.on_chat_model_start(
        serialized,
        [[HumanMessage(case.prompt)]],  # type: ignore[arg-type]
        run_id=run_id,
        metadata={"ls_provider": case.ls_provider or case.provider, "ls_model_name": case.requested or case.model},
        invocation_params=dict(case.params),
    )
    for usage in case.chunks:
        chunk = ChatGenerationChunk(message=AIMessageChunk("a", usage_metadata=usage or None))  # type: ignore[arg-type]
        handler.on_llm_new_token("a", chunk=chunk, run_id=run_id)
    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run_id)


def tokens(
    sent: int, received: int, *, total: int | None = None, within: Any = None, of_output: Any = None
) -> dict[str, Any]:
    usage: dict[str, Any] = {"input_tokens": sent, "output_tokens": received}
    usage["total_tokens"] = sent + received if total is None else total
    if within:
        usage["input_token_details"] = within
    if of_output:
        usage["output_token_details"] = of_output
    return usage


def at(url: str) -> dict[str, str]:
    return {"openai_api_base": url}


def anthropic_usage(sent: int, received: int, **more: Any) -> dict[str, Any]:
    return {"usage": {"input_tokens": sent, "output_tokens": received, **more}}


def through_openai(name: str, provider: str, url: str, model: str, promise: str, usage: Any, usd: str) -> ProviderCase:
    return ProviderCase(name, provider, "ChatOpenAI", promise, model, usage, usd, ls_provider="openai", kwargs=at(url))


def claude(
    name: str, promise: str, model: str, usage: Any, usd: str, mark: str | None = None, **more: Any
) -> ProviderCase:
    return ProviderCase(name, "anthropic", "ChatAnthropic", promise, model, usage, usd, mark, **more)


_BEDROCK_CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
_PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
_COMPACTION = {"type": "compaction", "input_tokens": 5000, "output_tokens": 200}
_MESSAGE = {"type": "message", "input_tokens": 1000, "output_tokens": 100}
_ADVISOR = {"type": "advisor_message", "model": "claude-opus-4-8", "input_tokens": 2000, "output_tokens": 100}
DECLINED = {"type": "message", "model": "claude-fable-5", "input_tokens": 1000, "output_tokens": 0}
SERVED = {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 1200, "output_tokens": 300}
_FOUND = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
_NOT_FOUND = {**_FOUND, "content": {"type": "web_search_tool_result_error", "error_code": "unavailable"}}
_RAN = {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_2", "content": {}}
_SEARCH_TOOL = {"type": "web_search_20250305", "name": "web_search"}
_CODE_TOOL = {"type": "code_interpreter", "container": {"type": "auto", "memory_limit": "4g"}}
_CODE_CALL = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
SONAR = {"search_context_size": "low"}

CASES: tuple[ProviderCase, ...] = (
    # 1000 x 2.5 + 100 x 15 = 4000, by 1.1
    through_openai(
        *("openai_region", "openai", "https://eu.api.openai.com/v1", "gpt-5.4"),
        *("regional hosts with their uplift of 10 %", tokens(1000, 100), "0.0044"),
    ),
    # 1000 x 1.25 + 200 x 10 = 3250; a container of 4 GB $0.12
    ProviderCase(
        *("openai_container", "openai", "ChatOpenAI", "containers of the code interpreter by their memory", "gpt-5"),
        *(tokens(1000, 200), "0.12325"),
        content=[_CODE_CALL, {"type": "text", "text": "fine"}],
        params={"tools": [_CODE_TOOL]},
    ),
    # 1000 x 2.5 + 100 x 10 = 3500; genai-prices has no fee of this model's searches.
    ProviderCase(
        *("openai_search_model", "openai", "ChatOpenAI", "a counted unit without a rate", "gpt-4o-search-preview"),
        *(tokens(1000, 100), "0.0035", "unpriced_unit"),
    ),
    # 1000 x 2.5 + 100 x 10 = 3500, of the tokens that agree
    ProviderCase(
        *("detail_above_count", "openai", "ChatOpenAI", "a detail larger than its count", "gpt-4o"),
        *(tokens(1000, 100, of_output={"reasoning": 101}), "0.0035", "lost_usage"),
    ),
    # 1000 x 0.15 + 200 x 0.6 = 270
    ProviderCase(
        *("cumulative", "openai", "ChatOpenAI", "streams that repeat the usage so far on each chunk", "gpt-4o-mini"),
        *(tokens(4000, 500), "0.00027"),
        chunks=[tokens(1000, 50), tokens(1000, 100), tokens(1000, 150), tokens(1000, 200)],
    ),
    # 1000 x 0.15 + 200 x 0.6 = 270
    ProviderCase(
        *("partial", "openai", "ChatOpenAI", "streams whose parts add up", "gpt-4o-mini"),
        *(tokens(1000, 200), "0.00027"),
        chunks=[tokens(1000, 0), tokens(0, 0), tokens(0, 200)],
    ),
    # 1000 x 0.59 + 100 x 0.79
    through_openai(
        *("groq_host", "groq", "https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
        *("priced as Groq", tokens(1000, 100), "0.000669"),
    ),
    # 1000 x 0.85 + 100 x 1.2
    through_openai(
        *("cerebras_host", "cerebras", "https://api.cerebras.ai/v1", "llama-3.3-70b"),
        *("priced as Cerebras", tokens(1000, 100), "0.00097"),
    ),
    # 500 x 0.15 + 500 x 0.003 + 100 x 0.6, off peak
    through_openai(
        *("deepseek_host", "deepseek", "https://api.deepseek.com/v1", "deepseek-v4-flash"),
        *("priced as DeepSeek", tokens(1000, 100, within={"cache_read": 500}), "0.0001365"),
    ),
    # 100 x 0.88 + 10 x 0.88
    through_openai(
        *("together_host", "together", "https://api.together.ai/v1", "meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        *("priced as Together", tokens(46, 42), "0.00007744"),
    ),
    # 1000 x 0.6 + 100 x 2.2
    through_openai(
        *("zai_host", "zai", "https://api.z.ai/api/paas/v4", "glm-4.7"),
        *("priced as Z.AI", tokens(1000, 100), "0.00082"),
    ),
    # 1000 x 5.5 + 100 x 33
    through_openai(
        *("mantle_host", "amazon_bedrock", "https://bedrock-mantle.us-east-1.api.aws/openai/v1", "openai.gpt-5.5"),
        *("priced as Amazon Bedrock", tokens(1000, 100), "0.0088"),
    ),
    ProviderCase(
        *("unknown_host", "self_hosted", "ChatOpenAI", "an unknown host: never at OpenAI's rates", "gpt-4o"),
        *(tokens(1000, 100), None, "unknown_model"),
        ls_provider="openai",
        kwargs=at("https://llm.example.org/v1"),
    ),
    ProviderCase(
        *("local_host", "self_hosted", "ChatOpenAI", "a local host with an open model", "gpt-oss-120b"),
        *(tokens(1000, 100), None, "self_hosted"),
        ls_provider="openai",
        kwargs=at("http://127.0.0.1:8000/v1"),
    ),
    ProviderCase(
        *("ollama", "ollama", "ChatOllama", "a server of one's own", "gemma3:1b", tokens(10, 10), None, "self_hosted"),
    ),
    # 1000 x 5 + 1000 x 25 = 30000; fast by 2
    claude(
        *("anthropic_fast", "``speed`` as the answer states it", "claude-opus-4-8", tokens(1000, 1000), "0.06"),
        metadata=anthropic_usage(1000, 1000, speed="fast"),
    ),
    claude(
        *("anthropic_fast_refused", "fast mode requested, standard served", "claude-opus-4-8", tokens(1000, 1000)),
        *("0.03",),
        metadata=anthropic_usage(1000, 1000, speed="standard"),
        kwargs={"model_kwargs": {"speed": "fast"}},
    ),
    # by 1.1
    claude(
        *("anthropic_us", "``inference_geo`` as the answer states it", "claude-opus-4-8", tokens(1000, 1000), "0.033"),
        metadata=anthropic_usage(1000, 1000, inference_geo="us"),
    ),
    # by 0.5
    claude(
        *("anthropic_batch", "the batch tier", "claude-opus-4-8", tokens(1000, 1000), "0.015"),
        metadata=anthropic_usage(1000, 1000, service_tier="batch"),
    ),
    # 6000 x 5 + 300 x 25
    claude(
        *("anthropic_compaction", "compaction samplings", "claude-opus-4-8", tokens(1000, 100), "0.0375"),
        metadata=anthropic_usage(1000, 100, iterations=[_COMPACTION, _MESSAGE]),
    ),
    # 1000 x 3 + 100 x 15 = 4500; the advisor 2000 x 5 + 100 x 25 = 12500
    claude(
        *("anthropic_advisor", "advisor samplings at their own model's rates", "claude-sonnet-4-6", tokens(1000, 100)),
        *("0.017",),
        metadata=anthropic_usage(1000, 100, iterations=[_MESSAGE, _ADVISOR]),
    ),
    # 1200 x 5 + 300 x 25: the model that declined wrote nothing.
    claude(
        *("anthropic_fallback", "a fallback's answer, the model that declined unbilled", "claude-opus-4-8"),
        *(tokens(1200, 300), "0.0135"),
        metadata=anthropic_usage(1200, 300, iterations=[DECLINED, SERVED]),
        requested="claude-fable-5",
    ),
    # The counts of both can be the same.
    claude(
        *("anthropic_fallback_same", "a fallback's answer whose counts are those of the declined request"),
        *("claude-opus-4-8", tokens(1200, 300), "0.0135"),
        metadata=anthropic_usage(
            1200, 300, iterations=[{**DECLINED, "model": "claude-opus-5", "input_tokens": 1200}, SERVED]
        ),
        requested="claude-opus-5",
    ),
    # A later request of the conversation goes to the fallback model at once.
    claude(
        *("anthropic_fallback_kept", "a fallback model that keeps the conversation", "claude-opus-4-8"),
        *(tokens(1200, 300), "0.0135"),
        metadata=anthropic_usage(1200, 300, iterations=[SERVED]),
        requested="claude-fable-5",
    ),
    # 1200 x 5 + 300 x 25 = 13500; what was declined midway 1000 x 10 + 200 x 50 = 20000
    claude(
        *("anthropic_fallback_midway", "what a model wrote before it declined, at its own rates", "claude-opus-4-8"),
        *(tokens(1200, 300), "0.0335"),
        metadata=anthropic_usage(1200, 300, iterations=[{**DECLINED, "output_tokens": 200}, SERVED]),
        requested="claude-fable-5",
    ),
    # 2200 x 5 + 400 x 25: a server tool had the fallback model sampled twice.
    claude(
        *("anthropic_fallback_loop", "every sampling of a fallback model", "claude-opus-4-8", tokens(2200, 400)),
        *("0.021",),
        metadata=anthropic_usage(2200, 400, iterations=[DECLINED, {**_MESSAGE, "model": "claude-opus-4-8"}, SERVED]),
        requested="claude-fable-5",
    ),
    # 300,000 x 3 + 1000 x 15: each sampling has at most the window of 200,000, so none is long.
    claude(
        *("anthropic_loop", "server-tool loops at the rates of one sampling", "claude-sonnet-4-5"),
        *(tokens(300_000, 1000), "0.915"),
        content=[_RAN, {"type": "text", "text": "fine"}],
        metadata=anthropic_usage(300_000, 1000),
    ),
    # With a longer window a sampling may have been long.
    claude(
        *("anthropic_long_loop", "server-tool loops that may hold a long prompt", "claude-sonnet-4-5"),
        *(tokens(300_000, 1000), "0.915", "lost_usage"),
        content=[_RAN, {"type": "text", "text": "fine"}],
        metadata=anthropic_usage(300_000, 1000),
        kwargs={"betas": ["context-1m-2025-08-07"]},
    ),
    # 1000 x 3 + 100 x 15 = 4500; one search $0.01
    claude(
        *("anthropic_search", "web searches by their results without an error", "claude-sonnet-4-5"),
        *(tokens(1000, 100), "0.0145"),
        content=[_FOUND, _NOT_FOUND, {"type": "text", "text": "fine"}],
        chunks=[{}],
    ),
    # 17 x 3 + 1000 x 0.3 + 500 x 3.75 + 100 x 15 = 51 + 300 + 1875 + 1500
    claude(
        *("anthropic_cache", "cache writes of all samplings", "claude-sonnet-4-5"),
        *(tokens(1117, 100, within={"cache_read": 1000, "ephemeral_5m_input_tokens": 100}), "0.003726"),
        metadata=anthropic_usage(
            *(17, 100),
            cache_read_input_tokens=1000,
            cache_creation_input_tokens=500,
            cache_creation={"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 0},
        ),
    ),
    # 9 estimated input tokens x 3 + 100 x 15
    claude(
        *("anthropic_no_input", "streams whose input tokens are dropped", "claude-sonnet-4-5", tokens(0, 100)),
        *("0.001518", "lost_usage"),
        chunks=[{}],
    ),
    # 1000 x 5 + 100 x 25
    claude(
        *("anthropic_streamed_compaction", "streams with a compaction or the advisor", "claude-opus-4-8"),
        *(tokens(1000, 100), "0.0075", "lost_usage"),
        content=[{"type": "compaction", "content": "so far"}, {"type": "text", "text": "fine"}],
        chunks=[{}],
    ),
    # 1000 x 3 + 100 x 15
    ProviderCase(
        *("vertex_claude_tools", "anthropicvertex", "ChatAnthropicVertex", "streams with server tools"),
        *("claude-sonnet-4-5", tokens(1000, 100), "0.0045", "lost_usage"),
        content=[{"type": "tool_use", "partial_json": "{}", "index": 0}, {"type": "text", "text": "fine"}],
        params={"tools": [_SEARCH_TOOL]},
        chunks=[{}],
    ),
    # 1000 x 3.3 + 100 x 16.5
    ProviderCase(
        *("bedrock_claude", "anthropic-bedrock", "ChatAnthropicBedrock", "priced as Amazon Bedrock"),
        *(_BEDROCK_CLAUDE, tokens(1000, 100), "0.00495"),
    ),
    # 100 x 3.3 + 1000 x 0.33 + 10 x 16.5
    ProviderCase(
        *("bedrock_cache", "amazon_bedrock", "ChatBedrockConverse", "cached tokens beside the input"),
        *(_BEDROCK_CLAUDE, tokens(100, 10, total=1110, within={"cache_read": 1000}), "0.000825"),
    ),
    ProviderCase(
        *("bedrock_cache_no_total", "amazon_bedrock", "ChatBedrockConverse", "cached tokens beside input and total"),
        *(_BEDROCK_CLAUDE, tokens(100, 10, within={"cache_read": 1000}), "0.000825"),
    ),
    # 1000 x 0.8 + 100 x 3.2, the standard rates
    ProviderCase(
        *("bedrock_flex", "amazon_bedrock", "ChatBedrockConverse", "a service tier without a rate"),
        *("us.amazon.nova-pro-v1:0", tokens(1000, 100), "0.00112", "unpriced_unit"),
        metadata={"serviceTier": {"type": "flex"}},
    ),
    # 1000 x 3.3 + 100 x 16.5
    ProviderCase(
        *("bedrock_profile", "amazon_bedrock", "ChatBedrockConverse", "inference profiles with ``base_model``"),
        *(_PROFILE, tokens(1000, 100), "0.00495"),
        kwargs={"base_model_id": _BEDROCK_CLAUDE},
    ),
    # 100 x 0.3 + 50 x 2.5
    ProviderCase(
        *("vertex_thoughts", "google_vertexai", "ChatVertexAI", "thoughts beside the output", "gemini-2.5-flash"),
        *(tokens(100, 10, total=150, of_output={"reasoning": 40}), "0.000155"),
    ),
    ProviderCase(
        *("gemma", "google_genai", "ChatGoogleGenerativeAI", "Gemma is free", "gemma-3-27b-it", tokens(100, 10), "0"),
    ),
    # 50 x 2 + 50 x 0.2 + 10 x 6
    ProviderCase(
        *("mistral_cache", "mistral", "ChatMistralAI", "cached tokens at 10 % of input", "mistral-large-latest"),
        *(tokens(100, 10), "0.00017"),
        metadata={"token_usage": {"prompt_tokens": 100, "completion_tokens": 10, "num_cached_tokens": 50}},
    ),
    # 110 x 0.1 + 10 x 0.4: seconds of audio cost otherwise.
    ProviderCase(
        *("mistral_audio", "mistral", "ChatMistralAI", "audio input", "voxtral-small-2507"),
        *(tokens(10, 10, total=120), "0.000015", "lost_usage"),
    ),
    # 100 x 0.15 + 10 x 0.6
    ProviderCase(
        *("cohere_stream", "cohere", "ChatCohere", "streams", "command-r", tokens(100, 10), "0.000021"),
        metadata={"token_count": {"input_tokens": 100.0, "output_tokens": 10.0, "total_tokens": 110.0}},
        chunks=[{}],
    ),
    ProviderCase(
        *("cohere_whole", "cohere", "ChatCohere", "answers that are not streamed: billed units are dropped"),
        *("command-r", tokens(100, 10), "0.000021", "lost_usage"),
        metadata={"token_count": {"input_tokens": 100.0, "output_tokens": 10.0}},
    ),
    # 100 x 1 + 200 x 1 = 300; a request with a small search context $0.005
    ProviderCase(
        *("perplexity_fee", "perplexity", "ChatPerplexity", "the request's fee by search context", "sonar"),
        *(tokens(100, 200), "0.0053"),
        metadata=SONAR,
    ),
    # 9 x 1 and 12 x 1, each rounded to $0.00001
    ProviderCase(
        *("perplexity_rounding", "perplexity", "ChatPerplexity", "dollars rounded as the provider states them"),
        *("sonar", tokens(9, 12), "0.00502"),
        metadata=SONAR,
    ),
    ProviderCase(
        *("perplexity_unknown_size", "perplexity", "ChatPerplexity", "an unknown search context", "sonar"),
        *(tokens(100, 200), "0.0053", "lost_usage"),
    ),
    # 100 x 2 + 100 x 8 + 1000 x 2 + 2000 x 3 = 9000; ten searches $0.05
    ProviderCase(
        *("perplexity_research", "perplexity", "ChatPerplexity", "searches, citations and reasoning beside the output"),
        *("sonar-deep-research", tokens(100, 100, of_output={"reasoning": 2000, "citation_tokens": 1000}), "0.059"),
        metadata={"num_search_queries": 10, "search_context_size": "medium"},
    ),
    ProviderCase(
        *("openrouter_cost", "openrouter", "ChatOpenRouter", "the stated cost", "openrouter/auto"),
        *(tokens(1000, 200), "0.00123"),
        metadata={"cost": 0.00123, "cost_details": {"upstream_inference_cost": 0.00123}},
    ),
    # OpenRouter's fee and what the upstream bills on the user's own key
    ProviderCase(
        *("openrouter_byok", "openrouter", "ChatOpenRouter", "the fee and the upstream's cost of one's own key"),
        *("openai/gpt-4o", tokens(1000, 200), "0.0021"),
        metadata={"cost": 0.0001, "cost_details": {"upstream_inference_cost": 0.002}},
    ),
    # 1000 x 2.5 + 100 x 10
    ProviderCase(
        *("openrouter_dropped", "openrouter", "ChatOpenAI", "streams and Responses: the stated cost is dropped"),
        *("openai/gpt-4o", tokens(1000, 100), "0.0035", "lost_usage"),
        ls_provider="openai",
        kwargs=at("https://openrouter.ai/api/v1"),
    ),
    # 100 x 0.3 + 100 x 0.5
    through_openai(
        *("xai_reasoning", "xai", "https://api.x.ai/v1", "grok-3-mini", "reasoning beside the output"),
        *(tokens(100, 10, total=200, of_output={"reasoning": 90}), "0.00008"),
    ),
    # 1000 x 0.2 + 100 x 0.5 = 250; three calls of $0.005
    ProviderCase(
        *("xai_tools", "xai", "ChatXAI", "web searches, X searches and code, each call", "grok-4-fast-reasoning"),
        *(tokens(1000, 100), "0.01525"),
        content=[
            {"type": "web_search_call", "id": "ws_1", "status": "completed"},
            {"type": "custom_tool_call", "id": "ctc_1", "name": "x_keyword_search"},
            {"type": "code_interpreter_call", "id": "ci_1", "name": "code_execution"},
            {"type": "function_call", "id": "fc_1", "name": "x_ray"},
        ],
    ),
    ProviderCase(
        *("xai_cost", "xai", "ChatOpenAI", "``cost_in_usd_ticks``", "grok-4.3", tokens(1000, 100), "0.0037756"),
        ls_provider="openai",
        kwargs=at("https://api.x.ai/v1"),
        metadata={"token_usage": {"prompt_tokens": 1000, "cost_in_usd_ticks": 37_756_000}},
    ),
)

# What no field shows: provider, client, and what is missing.
INVISIBLE: tuple[tuple[str, str, str], ...] = (
    ("any", "any", "a `client=` or `http_client=` of one's own with another address"),
    ("any", "any", "free quotas, credits, committed capacity and negotiated discounts: use custom rates"),
    ("amazon_bedrock", "any", "rates that differ by AWS region beside the profile's: those of the US count"),
    (
        "anthropic",
        "ChatAnthropic",
        "of a stream that a fallback model finished midway: its model, and what the first model wrote",
    ),
    (
        "anthropicvertex",
        "ChatAnthropicVertex",
        "a regional endpoint's uplift of 10 %, since no field holds the region: use custom rates",
    ),
    ("azure", "AzureChatOpenAI", "the kind of a deployment: data zones and regions cost more than the global kind"),
    ("cohere", "ChatCohere", "images and citations, which no count names"),
    ("litellm", "ChatLiteLLM", "service tiers and the calls of a provider's own tools, which its messages leave out"),
    ("mistral", "ChatMistralAI", "cached tokens of a stream: it costs less than recorded"),
    (
        "moonshotai",
        "ChatOpenAI",
        "cached tokens of a stream that stand beside OpenAI's details: it costs less than recorded",
    ),
    ("openai", "ChatOpenAI", "a retry inside the client library"),
)
