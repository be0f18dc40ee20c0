"""Replaces line-drawing characters for outputs whose encoding has none."""

from __future__ import annotations

import codecs
from typing import IO, Any

__all__ = ["PlainTextFile", "can_draw"]

_BLOCKS = dict.fromkeys("█▋▊▉▐", "#") | dict.fromkeys("▏▎▍▌▕", "|")
_PLAIN = str.maketrans(_BLOCKS | {"├": "|", "│": "|", "╰": "`", "─": "-", "✗": "x", "…": "."})


def can_draw(encoding: str) -> bool:
    """Return whether an encoding has the characters that trees are drawn with."""
    try:
        codecs.encode("├╰│─█▏▎▍▌▋▊▉▐▕✗…", encoding)
    except (LookupError, UnicodeEncodeError):
        return False
    return True


class PlainTextFile:
    """A text file that writes trees in ASCII, and ``?`` for what else its encoding lacks."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write a text."""
        encoding = getattr(self._file, "encoding", None) or "ascii"
        self._file.write(text.translate(_PLAIN).encode(encoding, "replace").decode(encoding))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
