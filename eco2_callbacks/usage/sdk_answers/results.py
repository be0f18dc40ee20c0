"""Builds results as LangChain's models give them, which the rest of the package reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.reported import count_of, messages_of

__all__ = [
    "SAMPLINGS",
    "combined",
    "counts",
    "counts_beside_cache",
    "new_chunk",
    "new_message",
    "new_result",
    "tool_call",
]

# The key of response_metadata that lists the usages of several answers behind one result.
SAMPLINGS = "samplings"


def new_message(
    content: Any, *, counted: Mapping[str, Any] | None, tool_calls: Sequence[Mapping[str, Any]] = (), **metadata: Any
) -> AIMessage:
    """Return a message with LangChain's ``usage_metadata``; response metadata that is None is left out."""
    message = AIMessage(
        content=content,
        tool_calls=[dict(call) for call in tool_calls],
        response_metadata={key: value for key, value in metadata.items() if value is not None},
    )
    if counted:
        # Not validated: an answer may hold anything, and is read with care.
        message.usage_metadata = dict(counted)  # type: ignore[assignment]
    return message


def new_result(messages: Iterable[BaseMessage]) -> LLMResult:
    """Return a result with one choice for each message."""
    return LLMResult(generations=[[ChatGeneration(message=message) for message in messages]])


def new_chunk(text: str, *, tool_name: str = "", tool_args: str = "", usage: Any = None) -> ChatGenerationChunk:
    """Return a streamed chunk with text, a part of a tool call, or the usage so far."""
    calls = []
    if tool_name or tool_args:
        calls.append({"name": tool_name or None, "args": tool_args, "id": None, "index": 0, "type": "tool_call_chunk"})
    message = AIMessageChunk(content=text, tool_call_chunks=cast("Any", calls))
    if usage:
        message.usage_metadata = dict(usage)  # type: ignore[assignment]
    return ChatGenerationChunk(message=message)


def tool_call(name: str, arguments: object) -> dict[str, Any]:
    """Return a tool call of a message; arguments that are no JSON object are kept as one argument."""
    args = arguments
    if isinstance(arguments, str):
        try:
            args = json.loads(arguments)
        except ValueError:
            args = None
    return {"name": name, "args": args if isinstance(args, dict) else {"": arguments}, "id": None, "type": "tool_call"}


def counts(
    *, input_tokens: int, output_tokens: int, total_tokens: object = None, **details: Mapping[str, object]
) -> dict[str, Any]:
    """Return LangChain's ``usage_metadata``; details of 0 and those that are no count are left out."""
    total = count_of(total_tokens)
    found: dict[str, Any] = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "total_tokens": input_tokens + output_tokens if total is None else total,
    }
    for key, counted in details.items():
        if kept := {name: count for name, value in counted.items() if (count := count_of(value))}:
            found[key] = kept
    return found


def counts_beside_cache(
    *, fresh: int, output: int, read: int, created: int, created_5m: int, created_1h: int
) -> dict[str, Any]:
    """Return ``usage_metadata`` of a provider whose input leaves out what was read from and written to its cache."""
    created = max(created, created_5m + created_1h)
    return counts(
        input_tokens=fresh + read + created,
        output_tokens=output,
        input_token_details={
            "cache_read": read,
            "cache_creation": created,
            "ephemeral_5m_input_tokens": created_5m,
            "ephemeral_1h_input_tokens": created_1h,
        },
    )


def combined(results: Sequence[LLMResult]) -> LLMResult | None:
    """Return several answers as one: their usages add up, and each stays readable as a sampling of its own."""
    if len(results) < 2:
        return results[0] if results else None
    messages = [message for result in results for message in messages_of(result)]
    if not messages:
        return results[-1]
    usages = [usage for message in messages if (usage := getattr(message, "usage_metadata", None))]
    reported = [message.response_metadata.get(key) for message in messages for key in ("token_usage", "usage")]
    last = messages[-1].response_metadata
    metadata: dict[str, Any] = {key: value for key, value in last.items() if key not in {"token_usage", "usage"}}
    if total := _added(reported):
        metadata["usage" if "usage" in last else "token_usage"] = total
    metadata[SAMPLINGS] = usages
    first = messages[0].model_copy(update={"response_metadata": metadata, "usage_metadata": _added(usages) or None})
    rest = [message.model_copy(update={"response_metadata": {}, "usage_metadata": None}) for message in messages[1:]]
    # Grounding is billed for each answer, and read from each message.
    for message, original in zip(rest, messages[1:], strict=True):
        if (grounding := original.response_metadata.get("grounding_metadata")) is not None:
            message.response_metadata["grounding_metadata"] = grounding
    return new_result([first, *rest])


def _added(values: Sequence[Any]) -> dict[str, Any]:
    """Return mappings added up, number by number; of anything else the last holds."""
    total: dict[str, Any] = {}
    for value in values:
        for key, inner in (value or {}).items() if isinstance(value, Mapping) else ():
            if isinstance(inner, Mapping):
                total[key] = _added([total.get(key), inner])
            elif count_of(inner) is not None and count_of(total.get(key, 0)) is not None:
                total[key] = total.get(key, 0) + inner
            elif isinstance(inner, list) and isinstance(total.get(key), list):
                total[key] = [*total[key], *inner]
            else:
                total[key] = inner
    return total
