"""Counts the tokens of an image sent to an OpenAI model, by the model's documented rule."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

__all__ = ["openai_image_tokens"]

_NO_LIMIT = 10**9


class _Tiles(NamedTuple):
    """Base tokens, and tokens for each square of 512 pixels that the scaled image covers."""

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return self.base + self.tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


class _Patches(NamedTuple):
    """Tokens for each square of 32 pixels. An image with more squares than its ``detail`` allows is scaled down."""

    factor: float
    high: int = 1536
    original: int = 1536
    low: int = 1536
    auto: str = "high"

    def tokens(self, width: int, height: int, detail: str) -> int:
        detail = self.auto if detail == "auto" else detail
        limit = self.low if detail == "low" else self.original if detail == "original" else self.high
        columns, rows = width / 32, height / 32
        if math.ceil(columns) * math.ceil(rows) > limit:
            scale = math.sqrt(limit / (columns * rows))
            # Scaled a little further, one side is a whole number of squares.
            scale *= min(max(1, int(side * scale)) / (side * scale) for side in (columns, rows))
            columns, rows = round(columns * scale, 6), round(rows * scale, 6)
        return round(min(limit, math.ceil(columns) * math.ceil(rows)) * self.factor)


# https://developers.openai.com/api/docs/guides/images-vision#calculating-costs; the first pattern that matches holds.
# The factor of gpt-5.2 is measured, and documented nowhere: https://community.openai.com/t/1372291
_RULES: tuple[tuple[re.Pattern[str], _Tiles | _Patches], ...] = tuple(
    (re.compile(pattern), rule)
    for pattern, rule in (
        (r"gpt-4o-mini", _Tiles(2833, 5667)),
        (r"gpt-4\.1-mini|gpt-5-mini", _Patches(1.62)),
        (r"gpt-4\.1-nano|gpt-5-nano", _Patches(2.46)),
        (r"o4-mini", _Patches(1.72)),
        (r"o[13]", _Tiles(75, 150)),
        (r"computer-use", _Tiles(65, 129)),
        (r"gpt-4|chatgpt-4o", _Tiles(85, 170)),
        (r"gpt-5(?!\.)|gpt-5\.1", _Tiles(70, 140)),
        (r"gpt-5\.[23]", _Patches(1.2)),
        (r"gpt-5\.\d+-mini", _Patches(1.62, 2500, 10_000, 256)),
        (r"gpt-5\.\d+-nano", _Patches(2.46, 2500, 10_000, 256)),
        (r"gpt-5\.[45]", _Patches(1.0, 2500, 10_000, 256)),
        (r"", _Patches(1.0, 2500, _NO_LIMIT, 256, auto="original")),
    )
)


def openai_image_tokens(width: int, height: int, *, model: str, detail: str) -> int:
    """Return the tokens of an image of this many pixels; ``detail`` is ``low``, ``high``, ``original`` or ``auto``."""
    rule = next(rule for pattern, rule in _RULES if pattern.match(model))
    return rule.tokens(width, height, detail)
