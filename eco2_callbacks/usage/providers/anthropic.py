"""Anthropic's rules: its web searches are billed by the piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.providers.base import ProviderRules
from eco2_callbacks.usage.server_tools import is_search, server_tool_calls
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["AnthropicRules"]


class AnthropicRules(ProviderRules):
    """Anthropic's API, and Claude on Vertex. Images are counted by the default rule, which is Anthropic's."""

    names: ClassVar[frozenset[str]] = frozenset({"anthropic", "google_anthropic_vertex"})

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its web searches. Other server tools have no price by the piece."""
        searches = sum(call.tool == "web_search" and is_search(call.block) for call in server_tool_calls(answers))
        return (replace(usage, web_searches=searches) if searches else usage), True
