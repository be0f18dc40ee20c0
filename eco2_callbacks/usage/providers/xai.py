"""xAI's rules: every call of a tool is billed, and some answers state what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_mapping, blocks_of
from eco2_callbacks.usage.providers.base import Exchange, ProviderRules, stated_usd
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["XAIRules"]

_TICKS_PER_USD = 10**10
# The blocks of the Responses API; LangChain's standard block is ``server_tool_call``.
_CALLS = frozenset(
    {"web_search_call", "x_search_call", "code_interpreter_call", "code_execution_call", "file_search_call"}
    | {"collections_search_call", "attachment_search_call", "custom_tool_call", "server_tool_call"}
)
# By the start of a tool's name: X has one tool for users, one for posts, one for threads.
_FIELDS = (
    ("web_search", "web_searches"),
    ("browse_page", "web_searches"),
    ("open_page", "web_searches"),
    ("x_", "x_searches"),
    ("code_", "code_executions"),
    ("collections_search", "file_searches"),
    ("file_search", "file_searches"),
    ("attachment_search", "attachment_searches"),
)
# The counts of ``usage.server_side_tool_usage_details``.
_REPORTED = {
    "web_search_calls": "web_searches",
    "x_search_calls": "x_searches",
    "code_interpreter_calls": "code_executions",
    "file_search_calls": "file_searches",
    "document_search_calls": "attachment_searches",
}


class XAIRules(ProviderRules):
    """xAI through ChatXAI or ChatOpenAI."""

    names: ClassVar[frozenset[str]] = frozenset({"xai", "x-ai"})
    total_holds_reasoning: ClassVar[bool] = True

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its tool calls, each billed: https://docs.x.ai/developers/pricing."""
        counts: dict[str, int] = {}
        for message in answers:
            metadata = as_mapping(getattr(message, "response_metadata", None))
            reported = as_mapping(metadata.get("token_usage") or metadata.get("usage"))
            details = as_mapping(reported.get("server_side_tool_usage_details"))
            for key, field in _REPORTED.items():
                if number := count_of(details.get(key)):
                    counts[field] = counts.get(field, 0) + number
        if not counts:
            for field in _called(answers):
                counts[field] = counts.get(field, 0) + 1
        return (replace(usage, **counts) if counts else usage), True

    def sampling_limit(self, exchange: Exchange) -> tuple[int, int | None]:
        """Return one more than the calls of xAI's tools: the input is the sum over them."""
        return 1 + sum(1 for _ in _calls(exchange.answer.messages)), None

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether Live Search read sources, or may have in a stream: each is billed, at no current rate.

        It is deprecated: https://docs.x.ai/docs/guides/live-search
        """
        sources = count_of(exchange.answer.reported.get("num_sources_used"))
        if sources is not None:
            return sources > 0
        if not exchange.streamed:
            return False
        mode = as_mapping(exchange.requested("search_parameters")).get("mode")
        return isinstance(mode, str) and mode != "off"

    def stated_cost(self, exchange: Exchange) -> Decimal | None:
        """Return ``usage.cost_in_usd_ticks``: "the actual amount billed".

        Source: https://docs.x.ai/developers/cost-tracking
        """
        return stated_usd(exchange.answer.reported.get("cost_in_usd_ticks"), per_usd=_TICKS_PER_USD)


def _called(answers: Sequence[BaseMessage]) -> Iterator[str]:
    """Yield the count of each tool call that is billed."""
    for name in _calls(answers):
        if (field := next((field for start, field in _FIELDS if name.startswith(start)), None)) is not None:
            yield field


def _calls(answers: Sequence[BaseMessage]) -> Iterator[str]:
    """Yield the tool's name of each call that succeeded, each once: a streamed block can come twice."""
    seen: set[str] = set()
    for number, block in enumerate(blocks_of(answers)):
        inner = block.get("value")
        call = inner if isinstance(inner, dict) else block
        kind = call.get("type")
        identity = str(call.get("id") or number)
        if (
            not isinstance(kind, str)
            or kind not in _CALLS
            or identity in seen
            or call.get("status") in ("failed", "incomplete")
        ):
            continue
        seen.add(identity)
        yield str(call.get("name") or kind.removesuffix("_call"))
