"""Reads image files as data URLs."""

from __future__ import annotations

import base64
from pathlib import Path

import filetype

__all__ = ["ImageError", "image_url"]

_IMAGE_TYPES = ("image/jpeg", "image/png", "image/webp")  # accepted by both providers
_MAX_MEGABYTES = 10  # Gemini accepts requests of 20 MB, and base64 adds a third


class ImageError(ValueError):
    """A file cannot be sent as an image."""


def image_url(path: Path) -> str:
    """Return an image's data URL.

    Raises:
        ImageError: If the file cannot be read, is too large, or has a type that the providers do not accept.
    """
    try:
        size_megabytes = path.stat().st_size / 1e6
        if size_megabytes > _MAX_MEGABYTES:
            raise ImageError(f"{path} has {size_megabytes:.1f} MB, wanted at most {_MAX_MEGABYTES}; scale it down.")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    if (mime := filetype.guess_mime(content) if content else None) not in _IMAGE_TYPES:
        raise ImageError(f"{path} is {mime or 'of an unknown type'}, wanted one of {', '.join(_IMAGE_TYPES)}.")
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"
