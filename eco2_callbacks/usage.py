"""TokenUsage: what one model call, or several together, consumed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from eco2_callbacks.frozen import frozen

__all__ = ["TokenUsage"]


@frozen
class TokenUsage:
    """Counts of everything a provider bills for; 0 is none.

    A count may lie inside another, as every provider reports them:

    - ``cache_read_tokens``, ``cache_creation_tokens`` and ``input_audio_tokens`` lie inside ``input_tokens``;
      ``cache_creation_5m_tokens`` and ``cache_creation_1h_tokens`` (Anthropic's lifetimes) inside
      ``cache_creation_tokens``; ``cache_read_audio_tokens`` inside both cached and audio input.
    - ``reasoning_tokens``, ``output_audio_tokens`` and ``output_image_tokens`` lie inside ``output_tokens``.

    ``images`` counts pictures in the answer, their sizes (``1K``, ``2K``, ``4K`` or ``WxH``) in ``image_sizes``.
    The rest are calls of the provider's own tools, billed by the piece.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_creation_5m_tokens: int = 0
    cache_creation_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cache_read_audio_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    images: int = 0
    image_sizes: tuple[str, ...] = ()
    web_searches: int = 0
    file_searches: int = 0
    code_interpreter_sessions: int = 0
    image_generations: int = 0
    maps_groundings: int = 0

    @property
    def total_tokens(self) -> int:
        """Input plus output, every kind inside them counted once."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: TokenUsage) -> TokenUsage:
        if not isinstance(other, TokenUsage):
            return NotImplemented
        return TokenUsage.sum((self, other))

    @classmethod
    def sum(cls, usages: Iterable[TokenUsage]) -> TokenUsage:
        """Return the usages added up; an empty iterable is no usage at all."""
        usages = list(usages)
        if len(usages) == 1:
            return usages[0]
        totals: dict[str, Any] = {}
        for usage in usages:
            for name, count in vars(usage).items():
                totals[name] = totals[name] + count if name in totals else count
        return cls(**totals)
