"""Collects the streamed answers of requests."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

__all__ = ["AnswerStream"]


class AnswerStream(BaseCallbackHandler):
    """Collects what the answer node streams. One stream follows one request.

    The stream mode ``"messages"`` of LangGraph does not fit: it makes every model stream.

    Args:
        answer_node: The node whose stream is the answer.
        on_text: Receives each piece of the answer.
    """

    run_inline = True

    def __init__(self, *, answer_node: str = "answer", on_text: Callable[[str], None] | None = None) -> None:
        super().__init__()
        self._answer_node = answer_node
        self._on_text = on_text
        self._lock = threading.Lock()  # the view is drawn on another thread
        self._calls: set[UUID] = set()
        self._pieces: list[str] = []

    @property
    def text(self) -> str:
        """The answer so far."""
        with self._lock:
            return "".join(self._pieces)

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") == self._answer_node:
            self._calls.add(run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Add a piece of the answer."""
        if run_id not in self._calls:
            return
        text = chunk.text if chunk is not None else token
        if isinstance(text, str) and text:
            with self._lock:
                self._pieces.append(text)
            if self._on_text is not None:
                self._on_text(text)
