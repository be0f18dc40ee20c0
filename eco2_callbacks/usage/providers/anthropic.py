"""Anthropic's rules: samplings, cache lifetimes, server tools, and what its client libraries drop of a stream."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_list, as_mapping, blocks_of
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, Sampling, context_of
from eco2_callbacks.usage.providers.cache_lifetimes import with_requested_lifetime
from eco2_callbacks.usage.reported import Reading, count_of
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["AnthropicRules"]

_WINDOW = 200_000
_LONG_WINDOW = 1_000_000
_LONG_WINDOW_BETA = "context-1m"
_BEDROCK = ("anthropic-bedrock", "anthropic-mantle")
_SERVER_TOOLS = ("web_search", "web_fetch", "code_execution", "advisor", "mcp_", "tool_search")
# The sampling of a fallback model that completed the answer; its earlier ones are of the type "message".
_FALLBACK = "fallback_message"
_MAIN = ("message", _FALLBACK)
# A refusal without a category has None. What is billed may change: a new category counts as billed.
_UNBILLED_REFUSALS = (None, "cyber", "general_harms")
_CALLS = ("server_tool_use", "server_tool_call", "mcp_tool_use")
# LangChain's standard blocks (``output_version="v1"``) name the tool in the call only.
_RESULTS = ("server_tool_result", "web_search_tool_result", "web_fetch_tool_result")


class AnthropicRules(ProviderRules):
    """Anthropic's API, and Claude on Vertex AI and Bedrock. Images are counted by the default rule, Anthropic's."""

    names: ClassVar[frozenset[str]] = frozenset(
        {"anthropic", "anthropic-bedrock", "anthropic-mantle", "anthropicvertex", "google_anthropic_vertex"}
    )
    streams_parts: ClassVar[bool] = True
    # A breakpoint in the prompt can set how long the cache keeps what it wrote.
    bills_prompt_blocks: ClassVar[bool] = True

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts of the answer's own usage where it is there: the sum of all samplings.

        Its split by lifetime is that of the last sampling; what exceeds the split was written for the lifetime that
        the request names.
        """
        reported = exchange.answer.reported
        fresh = count_of(reported.get("input_tokens"))
        if fresh is None:
            return with_requested_lifetime(Reading(usage, exchange.answer.is_consistent), exchange)
        read = count_of(reported.get("cache_read_input_tokens")) or 0
        split = as_mapping(reported.get("cache_creation"))
        one_hour = count_of(split.get("ephemeral_1h_input_tokens")) or 0
        five_minutes = count_of(split.get("ephemeral_5m_input_tokens")) or 0
        created = max(count_of(reported.get("cache_creation_input_tokens")) or 0, one_hour + five_minutes)
        is_counted = (created, fresh + read + created) == (usage.cache_creation_tokens, usage.input_tokens)
        if is_counted and one_hour in (0, usage.cache_creation_1h_tokens):
            return with_requested_lifetime(Reading(usage, exchange.answer.is_consistent), exchange)
        counts = replace(
            usage,
            input_tokens=fresh + read + created,
            cache_read_tokens=read,
            cache_creation_tokens=created,
            cache_creation_5m_tokens=five_minutes,
            cache_creation_1h_tokens=one_hour,
        )
        is_certain = one_hour in (0, created) or one_hour + five_minutes == created
        return with_requested_lifetime(Reading(counts, is_certain), exchange)

    def samplings(self, usage: TokenUsage, exchange: Exchange) -> Sequence[Sampling]:
        """Return the samplings that ``usage.iterations`` lists.

        The counts of the answer leave out compaction and advisor samplings. Each is billed, the advisor's at the rates
        of its own model: https://platform.claude.com/docs/en/build-with-claude/compaction

        Of a server-side fallback they hold the serving model's samplings alone. A model that declined is billed at its
        own rates, unless it wrote nothing and its category is free; see ``stated_cost``.
        """
        listed = exchange.answer.reported.get("iterations")
        if not isinstance(listed, list):
            return super().samplings(usage, exchange)
        iterations = [iteration for iteration in listed if isinstance(iteration, dict)]
        model = exchange.answer.model
        samplings = [_sampling(iteration, model) for iteration in iterations]
        served_by = {
            sampling.model
            for iteration, sampling in zip(iterations, samplings, strict=True)
            if iteration.get("type") == _FALLBACK
        }
        if not served_by:
            return samplings
        declined = dict.fromkeys(each.model for each in samplings if each.is_main and each.model not in served_by)
        free = _unbilled_of(tuple(declined), exchange.answer.messages)
        return [
            sampling if sampling.model in served_by else sampling._replace(is_main=False)
            for sampling in samplings
            if not sampling.is_main or sampling.usage.output_tokens or sampling.model not in free
        ]

    def stated_cost(self, exchange: Exchange) -> Decimal | None:
        """Return 0 where a classifier of Anthropic's own API refused the request before any output.

        That is billed in some categories only: https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback
        """
        answer = exchange.answer
        if answer.metadata.get("stop_reason") != "refusal" or self.provider != "anthropic":
            return None
        category = as_mapping(answer.metadata.get("stop_details")).get("category")
        wrote = answer.usage is None or answer.usage.output_tokens > 0 or _has_written(answer.reported)
        return None if wrote or category not in _UNBILLED_REFUSALS else Decimal(0)

    def sampling_limit(self, exchange: Exchange) -> tuple[int, int | None]:
        """Return one more than the calls of server tools, and the window that the request's betas allow.

        langchain-anthropic 1.0 keeps the calls of a stream alone; other answers hold the results alone.
        """
        kinds = [str(block.get("type")) for block in blocks_of(exchange.answer.messages)]
        calls = max(sum(kind in _CALLS for kind in kinds), sum(kind.endswith("tool_result") for kind in kinds))
        if not calls:
            return 1, None
        betas = [*as_list(exchange.requested("betas")), *_header_betas(exchange)]
        long_window = any(_LONG_WINDOW_BETA in str(beta) for beta in betas)
        return calls + 1, _LONG_WINDOW if long_window else None

    def price_models(self, exchange: Exchange) -> tuple[str, ...]:
        """Return on Bedrock the requested name: its prefix tells a regional profile from a global one.

        The answer has Anthropic's name, under which the profile's price cannot be found.
        """
        if self.provider in _BEDROCK and exchange.request_model:
            return (exchange.request_model,)
        return super().price_models(exchange)

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its web searches and fetches: each result without an error is billed."""
        searches = fetches = 0
        named: dict[str, str] = {}
        for block in blocks_of(answers):
            kind = block.get("type")
            if kind == "server_tool_call":
                named[str(block.get("id"))] = str(block.get("name"))
            elif kind in _RESULTS and not _has_failed(block):
                tool = named.get(str(block.get("tool_call_id")), "") if kind == "server_tool_result" else str(kind)
                searches += tool.startswith("web_search")
                fetches += tool.startswith("web_fetch")
        for message in answers:
            metadata = as_mapping(getattr(message, "response_metadata", None))
            tools = as_mapping(as_mapping(metadata.get("usage")).get("server_tool_use"))
            searches = _count(tools, "web_search_requests", searches)
            fetches = _count(tools, "web_fetch_requests", fetches)
        if not searches and not fetches:
            return usage, True
        return replace(usage, web_searches=searches, web_fetches=fetches), True

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether a stream lost a part of its usage.

        ==============================  =====================================================================
        a compaction or advisor block   ``usage.iterations`` of a stream is dropped
        server tools on Vertex AI       the input of later samplings is not read
        ==============================  =====================================================================
        """
        if exchange.answer.reported:
            return False
        messages = exchange.answer.messages
        if not any(isinstance(getattr(message, "content", None), list) for message in messages):
            return False
        if any(_is_own_sampling(block) for block in blocks_of(messages)):
            return True
        if "vertex" not in self.provider:
            return False
        offered = any(_is_server_tool(tool) for tool in as_list(exchange.params.get("tools")))
        return any(_is_server_block(block, offered) for block in blocks_of(messages))

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return tier, speed and place of inference as the answer states them; of a stream, as requested."""
        reported = exchange.answer.reported
        speed, geo = reported.get("speed"), reported.get("inference_geo")
        if not reported:
            speed, geo = exchange.requested("speed"), exchange.requested("inference_geo")
        if speed is None and geo is None and service_tier in (None, "standard"):
            return ()
        processing = "batch" if service_tier == "batch" else None
        return context_of({"inference_geo": geo, "processing": processing, "speed": speed})


def _sampling(iteration: Mapping[str, Any], model: str) -> Sampling:
    fresh = count_of(iteration.get("input_tokens")) or 0
    read = count_of(iteration.get("cache_read_input_tokens")) or 0
    split = as_mapping(iteration.get("cache_creation"))
    one_hour = count_of(split.get("ephemeral_1h_input_tokens")) or 0
    five_minutes = count_of(split.get("ephemeral_5m_input_tokens")) or 0
    created = max(count_of(iteration.get("cache_creation_input_tokens")) or 0, one_hour + five_minutes)
    usage = TokenUsage(
        input_tokens=fresh + read + created,
        output_tokens=count_of(iteration.get("output_tokens")) or 0,
        cache_read_tokens=read,
        cache_creation_tokens=created,
        cache_creation_5m_tokens=five_minutes,
        cache_creation_1h_tokens=one_hour,
    )
    own = iteration.get("model")
    return Sampling(own if isinstance(own, str) and own else model, usage, iteration.get("type") in _MAIN)


def _has_written(reported: Mapping[str, Any]) -> bool:
    """Return whether any model behind an answer wrote something before it declined."""
    return any(count_of(as_mapping(each).get("output_tokens")) for each in as_list(reported.get("iterations")))


def _unbilled_of(declined: Sequence[str], answers: Sequence[BaseMessage]) -> Collection[str]:
    """Return the models whose refusal before any output is free.

    A block stands between the output of two models and names the category: one for each model that declined.
    """
    blocks = [as_mapping(block.get("value")) or block for block in blocks_of(answers)]
    triggers = [as_mapping(block.get("trigger")) for block in blocks if block.get("type") == "fallback"]
    if len(triggers) != len(declined):
        return declined
    pairs = zip(declined, triggers, strict=True)
    return {model for model, trigger in pairs if trigger.get("category") in _UNBILLED_REFUSALS}


def _header_betas(exchange: Exchange) -> Iterator[str]:
    for key in ("default_headers", "extra_headers"):
        yield str(as_mapping(exchange.requested(key)).get("anthropic-beta", ""))


def _has_failed(block: Mapping[str, Any]) -> bool:
    if block.get("status") == "error":
        return True
    content = block.get("content", block.get("output"))
    return isinstance(content, dict) and str(content.get("type")).endswith("_error")


def _count(tools: Mapping[str, Any], key: str, counted: int) -> int:
    reported = count_of(tools.get(key))
    return counted if reported is None else reported


def _is_own_sampling(block: Mapping[str, Any]) -> bool:
    kind = block.get("type")
    value = as_mapping(block.get("value"))
    return (
        kind in ("compaction", "advisor_tool_result")
        or (kind in ("server_tool_use", "server_tool_call") and block.get("name") == "advisor")
        or (bool(value) and _is_own_sampling(value))
    )


def _is_server_tool(tool: object) -> bool:
    return str(as_mapping(tool).get("type")).startswith(_SERVER_TOOLS)


def _is_server_block(block: Mapping[str, Any], offered: bool) -> bool:
    kind = str(block.get("type"))
    if kind in ("server_tool_use", "server_tool_call") or (kind != "tool_result" and kind.endswith("tool_result")):
        return True
    # langchain-google-vertexai turns the call of a server tool into one without a name.
    return offered and kind == "tool_use" and not block.get("name")
