"""Rules of providers with OpenAI's API whose counts are OpenAI's, and whose total may hold reasoning beside them."""

from __future__ import annotations

from typing import ClassVar

from eco2_callbacks.usage.providers.base import ProviderRules

__all__ = ["CompatibleRules"]


class CompatibleRules(ProviderRules):
    """Providers that document their usage as OpenAI does."""

    names: ClassVar[frozenset[str]] = frozenset(
        {"deepseek", "together", "cerebras", "moonshotai", "zai", "novita", "minimax"}
    )
