"""Perplexity's rules: searches, citations and reasoning are billed beside the completion."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from msgspec.structs import replace

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, context_of, stated_usd
from eco2_callbacks.usage.reported import Reading, count_of
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["PerplexityRules"]

_DEEP_RESEARCH = "deep-research"
_DEARER_SEARCHES = ("auto", "pro")


class PerplexityRules(ProviderRules):
    """Perplexity's Sonar models.

    Source: https://docs.perplexity.ai/getting-started/pricing
    """

    names: ClassVar[frozenset[str]] = frozenset({"perplexity"})

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts of deep research with its searches, citations and reasoning, which lie beside the others.

        The other models bill none of them apart.
        """
        answer = exchange.answer
        if _DEEP_RESEARCH not in answer.model:
            return super().read_usage(usage, exchange)
        raw, reported = answer.raw_usage, answer.reported
        details = as_mapping(raw.get("output_token_details"))
        output_tokens = count_of(raw.get("output_tokens")) or 0
        reasoning = count_of(details.get("reasoning")) or count_of(reported.get("reasoning_tokens")) or 0
        citations = count_of(details.get("citation_tokens")) or count_of(reported.get("citation_tokens")) or 0
        searches = count_of(answer.metadata.get("num_search_queries")) or count_of(reported.get("num_search_queries"))
        counts = replace(
            usage,
            output_tokens=output_tokens + reasoning,
            reasoning_tokens=reasoning,
            citation_tokens=citations,
            web_searches=searches or 0,
        )
        return Reading(counts, is_consistent=searches is not None)

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether a fee is unknown that the answer does not state.

        ========================================  ===============================================================
        no size of the search context             the fee of a request differs by it
        an answer of the Responses API            its tools are billed by the call; LangChain drops their number
        a search of the type ``pro`` or ``auto``  it costs more, ``auto`` where the provider chose so
        ========================================  ===============================================================
        """
        if self.stated_cost(exchange) is not None:
            return False
        answer = exchange.answer
        if answer.metadata.get("object") == "response":
            return True
        options = as_mapping(exchange.requested("web_search_options"))
        search_type = options.get("search_type") or exchange.requested("search_type")
        if search_type in _DEARER_SEARCHES:
            return True
        is_by_size = answer.model.startswith("sonar") and _DEEP_RESEARCH not in answer.model
        return is_by_size and _context_size(exchange) is None

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return the size of the search context; where it is not stated, the documented default."""
        return context_of({"search_context_size": _context_size(exchange) or "low"})

    def stated_cost(self, exchange: Exchange) -> Decimal | None:
        """Return ``usage.cost.total_cost``, as ChatOpenAI hands it on."""
        return stated_usd(as_mapping(exchange.answer.reported.get("cost")).get("total_cost"))


def _context_size(exchange: Exchange) -> str | None:
    answer = exchange.answer
    size = answer.metadata.get("search_context_size") or answer.reported.get("search_context_size")
    if size is None:
        size = as_mapping(exchange.requested("web_search_options")).get("search_context_size")
    return size if isinstance(size, str) else None
