"""Estimates the usage of a call without reported usage, offline and by documented rules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from langchain_core.messages import BaseMessage

from eco2_callbacks.usage.content import as_mapping, blocks_of, compact_json, media_kind, message_text, tool_calls_of
from eco2_callbacks.usage.function_tokens import function_tokens
from eco2_callbacks.usage.media import audio_seconds, block_bytes
from eco2_callbacks.usage.providers import ProviderRules
from eco2_callbacks.usage.token_usage import TokenUsage
from eco2_callbacks.usage.tokenizers import count_tokens

__all__ = ["estimate_usage"]

# The parameters that hold the schema of a structured output: OpenAI's, and Gemini's two.
_SCHEMA_PARAMS = ("response_format", "response_json_schema", "response_schema")


def estimate_usage(
    prompt: Sequence[BaseMessage | str],
    output: Iterable[BaseMessage],
    params: Mapping[str, Any],
    *,
    rules: ProviderRules,
    model: str,
) -> TokenUsage:
    """Return the likely usage of a call: its prompt, and the text and tool calls received so far.

    Counted are text, images, audio, the offered functions and the schema of a structured output. Not counted are
    hidden reasoning, files, videos, and what a provider's own tools read.

    Args:
        prompt: The messages sent, or the prompts of a text completion.
        output: The messages or chunks received.
        params: The invocation's parameters, with the tools and the schema.
        rules: The provider's rules.
        model: The model that answered, or the requested one.
    """
    count = partial(count_tokens, model=model)
    messages = [sent for sent in prompt if isinstance(sent, BaseMessage)]
    text_tokens = sum(count(sent if isinstance(sent, str) else message_text(sent)) for sent in prompt)
    text_tokens += function_tokens(params.get("tools"), count)
    text_tokens += sum(count(_schema_json(params.get(key))) for key in _SCHEMA_PARAMS)
    if messages:
        text_tokens += rules.message_overhead_tokens(len(messages), model)
    blocks = list(blocks_of(messages))
    images = [block for block in blocks if media_kind(block) == "image"]
    image_tokens = sum(rules.image_tokens(block, model=model, params=params) for block in images)
    seconds = sum(audio_seconds(block_bytes(block) or b"") or 0.0 for block in blocks if media_kind(block) == "audio")
    audio_tokens = round(seconds * rules.audio_tokens_per_second)
    return TokenUsage(
        input_tokens=text_tokens + image_tokens + audio_tokens,
        input_audio_tokens=audio_tokens,
        output_tokens=_output_tokens(list(output), rules, model),
    )


def _output_tokens(received: Sequence[BaseMessage], rules: ProviderRules, model: str) -> int:
    # The chunks of a stream are one text.
    text = "".join(map(message_text, received))
    tokens = count_tokens(text, model) if text else 0
    if tokens:
        # Only the first chunk of a call carries its name.
        calls = sum(bool(call.get("name")) for message in received for call in tool_calls_of(message))
        tokens += rules.answer_overhead_tokens(calls, model)
    return tokens + rules.output_image_tokens(received, model)


def _schema_json(structure: object) -> str:
    """Return the JSON schema of a structured output, ``""`` where the parameter holds none."""
    model_json_schema = getattr(structure, "model_json_schema", None)
    schema = model_json_schema() if callable(model_json_schema) else structure
    fields = as_mapping(schema)
    fields = as_mapping(fields.get("json_schema", fields))
    fields = as_mapping(fields.get("schema", fields))
    return compact_json(fields) if "properties" in fields else ""
