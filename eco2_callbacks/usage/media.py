"""Reads pixel sizes of images and playing times of audio from the bytes in content blocks."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Mapping
from typing import Any

from eco2_callbacks.forks import importing

__all__ = ["audio_seconds", "block_bytes", "image_class", "image_pixels"]

# The size of an image stands in its header. If the first part of the base64 cuts it, or holds only metadata, more is
# decoded. A callback never decodes a whole large image.
_HEADER_BASE64 = (64 * 1024, 2 * 1024 * 1024)


def block_bytes(block: Mapping[str, Any], *, max_base64: int | None = None) -> bytes | None:
    """Return the bytes inside a content block, None where it holds a reference or nothing readable.

    Shapes: LangChain's standard blocks (``base64``), ``image_url`` and ``input_audio`` blocks of OpenAI, and the older
    ``{"source_type": "base64", "data": ...}`` and ``{"type": "media", "data": ...}``. ``max_base64`` limits how many
    characters are decoded.
    """
    data: Any = block.get("base64") or block.get("data")
    for key, field in (("image_url", "url"), ("input_audio", "data")):
        inner = block.get(key)
        if data is None and inner is not None:
            data = inner.get(field) if isinstance(inner, Mapping) else inner
    if isinstance(data, bytes | bytearray):
        return bytes(data)
    if not isinstance(data, str):
        return None
    if data.startswith("data:"):
        data = data.partition(",")[2]
    elif "://" in data[:16]:
        return None
    if max_base64 is not None:
        data = data[:max_base64]
    try:
        return base64.b64decode(data + "=" * (-len(data) % 4))
    except (binascii.Error, ValueError):
        return None


def image_pixels(block: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return width and height of the image in a content block, None where they cannot be read."""
    with importing.held:  # with the first image: most programs send none
        import imagesize  # noqa: PLC0415

    for max_base64 in _HEADER_BASE64:
        data = block_bytes(block, max_base64=max_base64)
        if not data:
            continue
        try:
            width, height = map(int, imagesize.get(io.BytesIO(data)))
        except Exception:  # noqa: S112  imagesize raises anything on a broken header
            continue
        if width > 0 and height > 0:
            return width, height
    return None


def image_class(pixels: tuple[int, int] | None) -> str:
    """Return the size class by area: ``512x512``, ``1K``, ``2K`` or ``4K``; ``1K`` for an unknown or tiny image."""
    if pixels is None:
        return "1K"
    # All shapes of a class hold about as many pixels as its square. The border is half of that.
    for name, square in (("4K", 4096), ("2K", 2048), ("1K", 1024), ("512x512", 512)):
        if 2 * pixels[0] * pixels[1] >= square * square:
            return name
    return "1K"


def audio_seconds(data: bytes) -> float | None:
    """Return the playing time of audio (WAV, MP3, Ogg, FLAC, M4A, AIFF), None where it cannot be read."""
    with importing.held:
        from tinytag import TinyTag, TinyTagException  # noqa: PLC0415

    try:
        duration = TinyTag.get(file_obj=io.BytesIO(data), tags=False, duration=True).duration
    except (TinyTagException, OSError, ValueError, ArithmeticError, LookupError, TypeError):
        return None
    return duration if duration and duration > 0 and math.isfinite(duration) else None
