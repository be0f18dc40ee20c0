"""AnswerStream: follows the model call that writes the answer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

__all__ = ["ANSWER_NODE", "AnswerStream"]

ANSWER_NODE = "answer"


class AnswerStream(BaseCallbackHandler):
    """Hands on what the answer node streams.

    It is a callback because ``stream_mode="messages"`` of LangGraph would make every model stream.
    """

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self._answer_calls: set[UUID] = set()

    @abstractmethod
    def on_answer_text(self, text: str) -> None:
        """Take a piece of the answer, which is not empty."""

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") == ANSWER_NODE:
            self._answer_calls.add(run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Hand on a piece of the answer."""
        text = chunk.text if chunk is not None else token
        if run_id in self._answer_calls and isinstance(text, str) and text:
            self.on_answer_text(text)
