"""Answers of a model in tests, and what read_answer returns for them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from tests.support.reading import Answer, read_answer

AT = datetime(2026, 11, 1, tzinfo=UTC)
REPORTED = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def result(*messages: AIMessage, llm_output: dict[str, Any] | None = None) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=message) for message in messages]], llm_output=llm_output)


def answer_of(*messages: AIMessage, llm_output: dict[str, Any] | None = None, **options: Any) -> Answer:
    return read_answer(
        result(*messages, llm_output=llm_output), **{"provider": "openai", "request_model": "requested"} | options
    )
