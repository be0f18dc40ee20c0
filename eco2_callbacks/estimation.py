"""Estimates of a usage that no provider told: what was sent and received, counted offline by documented rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from eco2_callbacks.function_tokens import function_tokens
from eco2_callbacks.gemini import AUDIO_TOKENS_A_SECOND, GOOGLE, image_output_tokens
from eco2_callbacks.image_tokens import image_tokens
from eco2_callbacks.media import audio_seconds, block_bytes
from eco2_callbacks.usage import TokenUsage

if TYPE_CHECKING:
    from rs_bpe.bpe.openai import Tokenizer

__all__ = ["count_tokens", "estimate_usage"]

# What the older encoding served; every later OpenAI model uses o200k_base. Other providers' tokenizers are not public
# as libraries: o200k_base, a vocabulary of similar size that knows Korean, stands in for them. That is the stated rule.
_CL100K = ("gpt-4-", "gpt-3.5", "gpt-35")
_OPENAI = ("openai", "azure")
# What OpenAI adds to a message: three tokens and the role's one, which its reasoning models do without, and three for
# the reply. https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions
_TOKENS_A_MESSAGE = 4
_TOKENS_A_MESSAGE_TO_REASON_ON = 3
_TOKENS_A_REPLY = 3
_REASONS = re.compile(r"o\d|gpt-5|codex")
# What an answer and a function call cost besides their text, for the marks around them: no document says it; so much
# more was billed in recorded answers of gpt-5 to gpt-5.6 (3 to 5, and 11 to 17), and for calls of older models (8).
_MARKED = re.compile(r"gpt-5")
_TOKENS_AN_ANSWER = 4
_TOKENS_A_CALL = 12
_TOKENS_AN_OLDER_CALL = 8
# https://platform.openai.com/docs/guides/realtime-costs; Gemini's figure stands in for every other provider.
_OPENAI_AUDIO_TOKENS_A_SECOND = 10
# Where a block holds words; where models are told which form the answer shall have, OpenAI's and Gemini's.
_WORDS = ("text", "thinking", "reasoning", "refusal")
_SCHEMAS = ("response_format", "response_json_schema", "response_schema")


def estimate_usage(
    prompt: Sequence[BaseMessage | str],
    output: Iterable[BaseMessage],
    params: Mapping[str, Any],
    *,
    provider: str,
    model: str,
) -> TokenUsage:
    """Return the likely usage of a call: what was sent, and the text and tool calls received so far.

    Sent are messages (or the prompts of a text completion), images, sound, the functions offered and the form asked
    for. Reasoning is not invented; files, videos and what a provider's own tools read are not counted.
    """
    count = partial(count_tokens, model=model)
    messages = [sent for sent in prompt if isinstance(sent, BaseMessage)]
    text_tokens = sum(count(sent if isinstance(sent, str) else _text(sent)) for sent in prompt)
    text_tokens += function_tokens(params.get("tools"), count)
    text_tokens += sum(count(_schema(params.get(key))) for key in _SCHEMAS)
    if messages and provider in _OPENAI:
        each = _TOKENS_A_MESSAGE_TO_REASON_ON if _REASONS.match(model) else _TOKENS_A_MESSAGE
        text_tokens += each * len(messages) + _TOKENS_A_REPLY
    resolution = params.get("media_resolution")
    see = partial(image_tokens, provider=provider, model=model, resolution=str(getattr(resolution, "name", resolution)))
    blocks = [block for message in messages for block in _blocks(message)]
    pictures = sum(see(block) for block in blocks if _kind(block) == "image")
    seconds = sum(audio_seconds(block_bytes(block) or b"") or 0.0 for block in blocks if _kind(block) == "audio")
    audio_tokens = round(seconds * (_OPENAI_AUDIO_TOKENS_A_SECOND if provider in _OPENAI else AUDIO_TOKENS_A_SECOND))
    received = list(output)
    answered = "".join(map(_text, received))
    output_tokens = count(answered) if answered else 0
    if output_tokens and provider in _OPENAI:
        calls = sum(bool(call.get("name")) for message in received for call in _calls(message))
        if _MARKED.match(model):
            output_tokens += calls * _TOKENS_A_CALL or _TOKENS_AN_ANSWER
        else:
            output_tokens += calls * _TOKENS_AN_OLDER_CALL
    if provider in GOOGLE:
        output_tokens += image_output_tokens(received, model)
    return TokenUsage(
        input_tokens=text_tokens + pictures + audio_tokens,
        input_audio_tokens=audio_tokens,
        output_tokens=output_tokens,
    )


def count_tokens(text: str, model: str) -> int:
    """Return how many tokens a text has for a model."""
    # A lone surrogate, which a broken stream can leave, has no UTF-8.
    plain = text.encode("utf-8", "replace").decode("utf-8")
    return int(_tokenizer(model == "gpt-4" or model.startswith(_CL100K)).count(plain))


@cache
def _tokenizer(old: bool) -> Tokenizer:
    # Its tables are 50 MB of shared library, which most applications never need.
    from rs_bpe.bpe import openai  # noqa: PLC0415

    return openai.cl100k_base() if old else openai.o200k_base()


def _text(message: BaseMessage) -> str:
    content = getattr(message, "content", "")
    words = [content] if isinstance(content, str) else []
    words += [block if isinstance(block, str) else _block_text(block) for block in _items(content)]
    words += [f"{call.get('name') or ''}{_json(call.get('args') or '')}" for call in _calls(message)]
    extra = getattr(message, "additional_kwargs", None)
    refusal = extra.get("refusal") if isinstance(extra, Mapping) else None
    return "".join([*words, refusal if isinstance(refusal, str) else ""])


def _calls(message: BaseMessage) -> list[Mapping[str, Any]]:
    # While it streams a call has arguments that are no JSON yet: the chunks alone have all of it.
    calls = _items(getattr(message, "tool_call_chunks", None)) or _items(getattr(message, "tool_calls", None))
    return [call for call in calls if isinstance(call, Mapping)]


def _block_text(block: object) -> str:
    if not isinstance(block, Mapping):
        return ""
    return next((text for key in _WORDS if isinstance(text := block.get(key), str)), "")


def _blocks(message: BaseMessage) -> list[Mapping[str, Any]]:
    return [block for block in _items(getattr(message, "content", None)) if isinstance(block, Mapping)]


def _items(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _kind(block: Mapping[str, Any]) -> str:
    """Return ``image`` or ``audio`` for a block that holds one, in LangChain's words or in a provider's."""
    kind = str(block.get("type")).removeprefix("input_").removesuffix("_url")
    return str(block.get("mime_type")).partition("/")[0] if kind == "media" else kind


def _schema(form: object) -> str:
    """Return the JSON schema of the form that an answer shall have, ``""`` where none is asked for."""
    told = getattr(form, "model_json_schema", None)
    schema = told() if callable(told) else form
    if isinstance(schema, Mapping):
        schema = schema.get("json_schema", schema)
        schema = schema.get("schema", schema) if isinstance(schema, Mapping) else schema
    return _json(schema) if isinstance(schema, Mapping) and "properties" in schema else ""


def _json(value: object) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    )
