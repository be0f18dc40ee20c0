"""The rules of the user's own servers: no provider bills their tokens."""

from __future__ import annotations

from typing import ClassVar

from eco2_callbacks.usage.providers.base import ProviderRules

__all__ = ["SelfHostedRules"]


class SelfHostedRules(ProviderRules):
    """A server of the user's own or of an unknown host, and the runtimes that are always that."""

    names: ClassVar[frozenset[str]] = frozenset(
        {"self_hosted", "ollama", "llamacpp", "llama-cpp", "gpt4all", "vllm", "mlx", "lmstudio"}
    )
