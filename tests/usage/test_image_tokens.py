"""image_tokens: the providers' own examples, and numbers that were billed."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.reading import image_tokens


def picture(width: int, height: int, **more: Any) -> dict[str, Any]:
    """Return an image block with a PNG header, the only part that is read."""
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + b"IHDR" + header
    return {"type": "image", "base64": base64.b64encode(data).decode(), "mime_type": "image/png", **more}


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        # The examples of https://developers.openai.com/api/docs/guides/images-vision#calculating-costs
        ("gpt-4o", (1024, 1024), 765),
        ("gpt-4o", (2048, 4096), 1105),
        ("gpt-4.1-mini", (1024, 1024), 1659),  # 1024 patches x 1.62
        ("gpt-4.1-mini", (1800, 2400), 2352),  # scaled to 33 x 44 = 1452 patches, x 1.62
        # Billed: 516 = 533 less the text, for 640 x 480
        ("o4-mini-2025-04-16", (640, 480), 516),
        # Billed: https://community.openai.com/t/1281361 and 8500 of a recorded 8513, for 320 x 213
        ("gpt-4o-mini-2024-07-18", (320, 213), 8500),
        ("gpt-4.1", (2049, 513), 1445),
        ("o3", (512, 512), 225),
        ("computer-use-preview", (512, 512), 194),
        ("gpt-5-2025-08-07", (1024, 1024), 630),
        ("gpt-5-chat-latest", (512, 512), 210),
        ("gpt-5.1-2025-11-13", (512, 512), 210),
        ("gpt-5-mini", (512, 512), 415),
        ("gpt-5-nano", (512, 512), 630),
        ("gpt-5.2-2025-12-11", (512, 512), 307),
        ("gpt-5.4-mini", (512, 512), 415),
        ("gpt-5.4-nano", (512, 512), 630),
        ("gpt-5.6-sol", (512, 512), 256),
        ("gpt-5.5", (32_000, 3200), 2250),  # 10 : 1 is 150 x 15 of at most 2500 patches
        ("gpt-5.6-sol", (3200, 3200), 10_000),  # not scaled
    ],
)
def test_an_image_for_openai_has_its_documented_tokens(model: str, size: tuple[int, int], tokens: int) -> None:
    """OpenAI counts squares of 512 or of 32 pixels, by model."""
    assert image_tokens(picture(*size), provider="openai", model=model) == tokens


def test_low_detail_costs_the_least() -> None:
    """A tile model takes its base, a newer patch model 512 pixels square; an older one ignores the detail."""
    big, small = (3000, 3000), {"detail": "low"}

    assert image_tokens(picture(*big, **small), provider="openai", model="gpt-4o") == 85
    assert image_tokens(picture(*big, **small), provider="openai", model="gpt-5.4") == 256
    assert image_tokens(picture(*big, **small), provider="openai", model="gpt-4.1-mini") == 2464  # 39 x 39 x 1.62
    assert image_tokens(picture(*big, detail="high"), provider="openai", model="gpt-5.6") == 2500
    nested = {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}}
    assert image_tokens(nested, provider="azure", model="gpt-4o") == 85
    assert image_tokens(picture(*big, detail="original"), provider="openai", model="gpt-5.4") == 94 * 94


@pytest.mark.parametrize(
    ("model", "size", "resolution", "tokens"),
    [
        # https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens
        ("gemini-2.5-flash", (384, 384), "", 258),
        ("gemini-2.5-flash", (385, 200), "", 258),
        ("gemini-2.5-flash", (1024, 1024), "", 4 * 258),
        # https://ai.google.dev/gemini-api/docs/media-resolution
        ("gemini-3-flash-preview", (100, 100), "", 1120),
        ("gemini-3-flash-preview", (4000, 4000), "None", 1120),
        ("gemini-3-pro-preview", (100, 100), "MEDIA_RESOLUTION_LOW", 280),
        ("gemini-3-pro-preview", (100, 100), "MEDIA_RESOLUTION_MEDIUM", 560),
        ("gemini-3-pro-preview", (100, 100), "MEDIA_RESOLUTION_ULTRA_HIGH", 2240),
    ],
)
def test_an_image_for_gemini_has_its_documented_tokens(
    model: str, size: tuple[int, int], resolution: str, tokens: int
) -> None:
    """Before Gemini 3 an image costs by its tiles, from Gemini 3 on by its resolution."""
    assert image_tokens(picture(*size), provider="google_genai", model=model, resolution=resolution) == tokens


def test_an_images_own_resolution_wins() -> None:
    """Gemini 3 takes the resolution of each image."""
    block = picture(100, 100, media_resolution="MEDIA_RESOLUTION_LOW")

    tokens = image_tokens(block, provider="google_genai", model="gemini-3-pro", resolution="MEDIA_RESOLUTION_HIGH")

    assert tokens == 280


def test_other_providers_bill_the_area() -> None:
    """Anthropic documents one token per 750 pixels, and 1600 at most."""
    claude = {"provider": "anthropic", "model": "claude-opus-4-5"}

    assert image_tokens(picture(1000, 1000), **claude) == 1334
    assert image_tokens(picture(5000, 5000), **claude) == 1600


@pytest.mark.parametrize("data", ["https://example.org/cat.png", "", "AAAA", None])
def test_an_unreadable_image_counts_as_1024_pixels_square(data: str | None) -> None:
    """A linked or broken image counts as 1024 pixels square."""
    block = {"type": "image_url", "image_url": {"url": data}}

    assert image_tokens(block, provider="openai", model="gpt-4o") == 765


@given(
    st.integers(1, 100_000),
    st.integers(1, 100_000),
    st.sampled_from(["gpt-4o", "gpt-5.2", "gpt-4.1-nano", "o3", "o4-mini"]),
)
def test_every_size_has_some_tokens(width: int, height: int, model: str) -> None:
    """Every size costs at least one token and no more than the model's budget."""
    assert 1 <= image_tokens(picture(width, height), provider="openai", model=model) <= 3779  # 1536 x 2.46
