"""Collects the streamed answers of requests."""

from __future__ import annotations

import threading
from collections.abc import Callable

from graph.answer_stream import AnswerStream

__all__ = ["CollectedAnswer"]


class CollectedAnswer(AnswerStream):
    """Collects what the answer node streams. One object follows one request.

    Args:
        on_text: Receives each piece of the answer.
    """

    def __init__(self, *, on_text: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._on_text = on_text
        self._lock = threading.Lock()  # the view is drawn on another thread
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        with self._lock:
            return "".join(self._pieces)

    def on_answer_text(self, text: str) -> None:
        """Add a piece of the answer."""
        with self._lock:
            self._pieces.append(text)
        if self._on_text is not None:
            self._on_text(text)
