"""Reads answers of the openai SDK and of the Agents SDK, from Chat Completions to images and transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.sdk_answers.fields import field_of, list_of, name_of, plain, text_of
from eco2_callbacks.usage.sdk_answers.results import combined, counts, new_chunk, new_message, new_result, tool_call

__all__ = ["ChatStream", "ResponsesStream", "read_agents_result", "read_chat", "read_response"]

_LAST_EVENTS = ("response.completed", "response.incomplete", "response.failed")
# The names of Chat Completions, of Responses and images, and of transcripts and Realtime.
_INPUT_DETAILS = ("prompt_tokens_details", "input_tokens_details", "input_token_details")
_OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details", "output_token_details")


def read_chat(answer: object) -> LLMResult:
    """Read a Chat Completion, or another answer with OpenAI's ``usage``, such as an embedding or an image."""
    usage = plain(field_of(answer, "usage"))
    messages = []
    for choice in list_of(answer, "choices"):
        message = field_of(choice, "message")
        calls = [field_of(call, "function") for call in list_of(message, "tool_calls")]
        messages.append(
            new_message(
                text_of(message, "content") or text_of(message, "refusal") or text_of(choice, "text"),
                counted=None,
                tool_calls=[tool_call(text_of(call, "name"), field_of(call, "arguments")) for call in calls],
            )
        )
    first = new_message(
        messages[0].content if messages else "",
        counted=_usage(usage, is_image=_is_image(answer), is_input=not messages),
        tool_calls=messages[0].tool_calls if messages else (),
        **_metadata(answer, usage),
    )
    return new_result([first, *messages[1:]])


def read_response(answer: object) -> LLMResult:
    """Read an answer of the Responses API."""
    usage = plain(field_of(answer, "usage"))
    metadata = _metadata(answer, usage)
    if tool_usage := plain(field_of(answer, "tool_usage")):
        metadata["tool_usage"] = tool_usage
    return new_result([_output_message(list_of(answer, "output"), usage, metadata)])


def read_agents_result(result: object) -> LLMResult | None:
    """Read a result of the Agents SDK: all model responses of the run, each with its own usage."""
    results = []
    for response in list_of(result, "raw_responses"):
        usage = plain(field_of(response, "usage"))
        metadata = {"id": name_of(response, "response_id"), "token_usage": usage}
        results.append(new_result([_output_message(list_of(response, "output"), usage, metadata)]))
    return combined(results)


class ChatStream:
    """A streamed Chat Completion. Of several usages the last one counts: each repeats the usage so far."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._fields: dict[str, Any] = {}
        self._usage: Any = None

    @property
    def is_complete(self) -> bool:
        """Whether the chunk with the usage has come."""
        return self._usage is not None

    def add(self, chunk: object) -> ChatGenerationChunk | None:
        """Add a chunk, and return it as LangChain would.

        The SDK's helper wraps each in an event and adds its own events. Mistral's SDK wraps each too.
        """
        if (data := field_of(chunk, "data")) is not None:
            chunk = data
        if (kind := text_of(chunk, "type")) and (
            chunk := field_of(chunk, "chunk") if kind == "chunk" else None
        ) is None:
            return None
        for name in ("id", "model", "service_tier"):
            if (value := name_of(chunk, name)) is not None:
                self._fields[name] = value
        usage = field_of(chunk, "usage")
        if usage is not None:
            self._usage = usage = plain(usage)
        text = tool_name = tool_args = ""
        for choice in list_of(chunk, "choices"):
            delta = field_of(choice, "delta")
            text += text_of(delta, "content") or text_of(delta, "refusal") or text_of(choice, "text")
            for call in list_of(delta, "tool_calls"):
                tool_name += text_of(field_of(call, "function"), "name")
                tool_args += text_of(field_of(call, "function"), "arguments")
        self._texts.append(text)
        return new_chunk(text, tool_name=tool_name, tool_args=tool_args, usage=_usage(usage))

    def result(self) -> LLMResult:
        """Return the answer so far."""
        message = new_message("".join(self._texts), counted=_usage(self._usage), **_metadata(self._fields, self._usage))
        return new_result([message])


class ResponsesStream:
    """Streamed events of the Responses API, or of an Agents SDK run, which holds several responses."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._first: object = None
        self._whole: list[LLMResult] = []

    @property
    def is_complete(self) -> bool:
        """Whether the last event of a response was the latest."""
        return bool(self._whole) and self._first is None

    def add(self, event: object) -> ChatGenerationChunk | None:
        """Add an event, and return it as LangChain would; None for one without content."""
        kind = text_of(event, "type")
        if kind == "raw_response_event":
            event = field_of(event, "data")
            kind = text_of(event, "type")
        if kind == "response.created":
            self._first = field_of(event, "response")
            self._texts.clear()
        elif kind in _LAST_EVENTS:
            last = field_of(event, "response")
            self._whole.append(read_response(last))
            self._first = None
            return new_chunk("", usage=_usage(plain(field_of(last, "usage"))))
        elif kind.endswith(".delta") and (text := text_of(event, "delta")):
            if kind == "response.function_call_arguments.delta":
                return new_chunk("", tool_args=text)
            self._texts.append(text)
            return new_chunk(text)
        return None

    def result(self) -> LLMResult:
        """Return the answers so far."""
        if self._whole and self._first is None:
            return combined(self._whole) or self._whole[-1]
        cut = new_result([new_message("".join(self._texts), counted=None, **_metadata(self._first, None))])
        return combined([*self._whole, cut]) or cut


def _output_message(output: list[Any], usage: Any, metadata: Mapping[str, Any]) -> AIMessage:
    blocks: list[Any] = []
    calls = []
    for item in map(plain, output):
        kind = as_mapping(item).get("type")
        if kind == "message":
            parts = item.get("content")
            blocks += [_text_block(part) for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []
        elif kind == "function_call":
            calls.append(tool_call(str(item.get("name") or ""), item.get("arguments")))
        elif isinstance(item, dict):
            blocks.append(item)
    return new_message(blocks, counted=_usage(usage), tool_calls=calls, **metadata)


def _text_block(part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": str(part.get("text") or part.get("refusal") or "")}


def _metadata(answer: object, usage: Any) -> dict[str, Any]:
    return {
        "model_name": name_of(answer, "model"),
        "id": name_of(answer, "id"),
        "service_tier": name_of(answer, "service_tier"),
        "token_usage": usage if isinstance(usage, dict) else None,
    }


def _is_image(answer: object) -> bool:
    """Return whether an answer of the Images API holds images; an embedding has ``data`` too."""
    return any(field_of(item, name) is not None for item in list_of(answer, "data") for name in ("b64_json", "url"))


def _usage(usage: Any, *, is_image: bool = False, is_input: bool = False) -> dict[str, Any] | None:
    """Return OpenAI's usage in LangChain's names; the field names of all its APIs are read.

    Embeddings of compatible servers can have a total alone, which is their input. Output of the Images API without
    details is image.
    """
    if not isinstance(usage, dict):
        return None
    input_tokens = _count(usage, "prompt_tokens", "input_tokens")
    output_tokens = _count(usage, "completion_tokens", "output_tokens")
    if input_tokens is None and output_tokens is None:
        input_tokens = _count(usage, "total_tokens") if is_input else None
        if input_tokens is None:
            return None
    within_input = _first_mapping(usage, *_INPUT_DETAILS)
    within_output = _first_mapping(usage, *_OUTPUT_DETAILS)
    return counts(
        input_tokens=input_tokens or 0,
        output_tokens=output_tokens or 0,
        total_tokens=usage.get("total_tokens"),
        input_token_details={
            "cache_read": within_input.get("cached_tokens"),
            "cache_creation": within_input.get("cache_write_tokens") or within_input.get("cache_creation_tokens"),
            "audio": within_input.get("audio_tokens"),
            "image": within_input.get("image_tokens"),
        },
        output_token_details={
            "reasoning": within_output.get("reasoning_tokens"),
            "audio": within_output.get("audio_tokens"),
            "image": within_output.get("image_tokens", output_tokens if is_image and not within_output else None),
        },
    )


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    return next((count for name in names if (count := count_of(usage.get(name))) is not None), None)


def _first_mapping(usage: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        value = usage.get(name)
        if isinstance(value, list) and value:
            value = value[0]  # the Agents SDK keeps a list in some versions
        if isinstance(value, Mapping):
            return value
    return {}
