"""The prompts, one text file each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

__all__ = ["prompt"]


@cache
def prompt(name: str) -> str:
    """Return the text of ``<name>.txt``. The first call reads the file."""
    return Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8")
