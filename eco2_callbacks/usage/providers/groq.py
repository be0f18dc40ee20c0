"""Groq's rules: the tools that it runs itself stand beside the answer, and are billed by the piece."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_list, as_mapping
from eco2_callbacks.usage.providers.base import ProviderRules
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["GroqRules"]

# By a part of a tool's type: https://console.groq.com/docs/tool-use/built-in-tools
_FIELDS = {
    "search": "web_searches",
    "browser": "web_searches",
    "visit": "web_fetches",
    "python": "code_executions",
    "code": "code_executions",
}


class GroqRules(ProviderRules):
    """Groq's API, whose counts are OpenAI's."""

    names: ClassVar[frozenset[str]] = frozenset({"groq"})

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its executed tools, as ChatGroq hands them on; their fees have no public rate."""
        counts: dict[str, int] = {}
        for message in answers:
            more = as_mapping(getattr(message, "additional_kwargs", None))
            for tool in as_list(more.get("executed_tools")):
                kind = str(as_mapping(tool).get("type")).lower()
                field = next((field for part, field in _FIELDS.items() if part in kind), None)
                if field is not None:
                    counts[field] = counts.get(field, 0) + 1
        return (replace(usage, **counts) if counts else usage), True
