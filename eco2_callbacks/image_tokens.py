"""How many tokens an image is that was sent to a model, by its provider's documented rule."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from eco2_callbacks.media import image_pixels

__all__ = ["image_tokens"]

# Of an image behind an address nobody knows the size here: that of a usual photo on the web.
_USUAL = (1024, 1024)
_GEMINI = re.compile(r"gemini-(\d{1,3})")
_GEMINI_TILE = 258
# From Gemini 3 on, whatever the size: https://ai.google.dev/gemini-api/docs/media-resolution
_GEMINI_TOKENS = {"LOW": 280, "MEDIUM": 560, "HIGH": 1120, "ULTRA_HIGH": 2240}


_NO_BOUND = 10**9


class _Tiles(NamedTuple):
    """Base tokens, and tokens for each square of 512 pixels that the image needs after it was scaled."""

    base: int
    tile: int

    def tokens(self, width: int, height: int, detail: str) -> int:
        if detail == "low":
            return self.base
        scale = min(1.0, 2048 / max(width, height))
        scale = min(scale, 768 / min(width, height))
        return self.base + self.tile * math.ceil(width * scale / 512) * math.ceil(height * scale / 512)


class _Patches(NamedTuple):
    """Tokens for each square of 32 pixels, and how many squares at most before it is scaled, by ``detail``."""

    factor: float
    high: int = 1536
    original: int = 1536
    low: int = 1536
    auto: str = "high"

    def tokens(self, width: int, height: int, detail: str) -> int:
        detail = self.auto if detail == "auto" else detail
        most = self.low if detail == "low" else self.original if detail == "original" else self.high
        columns, rows = width / 32, height / 32
        if math.ceil(columns) * math.ceil(rows) > most:
            scale = math.sqrt(most / (columns * rows))
            # So that one side is whole squares.
            scale *= min(max(1, int(side * scale)) / (side * scale) for side in (columns, rows))
            columns, rows = round(columns * scale, 6), round(rows * scale, 6)
        return round(min(most, math.ceil(columns) * math.ceil(rows)) * self.factor)


# https://developers.openai.com/api/docs/guides/images-vision#calculating-costs; the first that the name begins with.
# The factor of gpt-5.2 is measured, and documented nowhere: https://community.openai.com/t/1372291
_OPENAI: tuple[tuple[re.Pattern[str], _Tiles | _Patches], ...] = tuple(
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
        (r"", _Patches(1.0, 2500, _NO_BOUND, 256, auto="original")),
    )
)


def image_tokens(block: Mapping[str, Any], *, provider: str, model: str, resolution: str = "") -> int:
    """Return the tokens of an image in a content block.

    Args:
        block: As LangChain sends it, with the image or its address.
        provider: LangChain's ``ls_provider``; of those without a rule here the area counts, as Anthropic documents.
        model: The model it was sent to.
        resolution: Gemini's ``media_resolution`` of the whole request.
    """
    width, height = image_pixels(block) or _USUAL
    if provider in ("openai", "azure"):
        rule = next(rule for pattern, rule in _OPENAI if pattern.match(model))
        return rule.tokens(width, height, _detail(block))
    if (generation := _GEMINI.match(model)) is not None:
        if int(generation[1]) >= 3:
            asked = str(block.get("media_resolution") or resolution).upper()
            return _GEMINI_TOKENS.get(asked.rpartition("RESOLUTION_")[2], _GEMINI_TOKENS["HIGH"])
        if max(width, height) <= 384:
            return _GEMINI_TILE
        # https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens
        return _GEMINI_TILE * math.ceil(width / 768) * math.ceil(height / 768)
    # https://docs.claude.com/en/docs/build-with-claude/vision#calculate-image-costs
    return min(1600, math.ceil(width * height / 750))


def _detail(block: Mapping[str, Any]) -> str:
    inner = block.get("image_url")
    told = block.get("detail") or (inner.get("detail") if isinstance(inner, Mapping) else None)
    return str(told or "auto")
