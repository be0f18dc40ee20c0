"""Estimates of a usage that no provider told: text counted by an offline tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from langchain_core.messages import BaseMessage

from eco2_callbacks.usage import TokenUsage

if TYPE_CHECKING:
    from rs_bpe.bpe.openai import Tokenizer

__all__ = ["count_tokens", "estimate_usage"]

# What the older encoding served; every later OpenAI model uses o200k_base. Other providers' tokenizers are not public
# as libraries: o200k_base, a vocabulary of similar size that knows Korean, stands in for them. That is the stated rule.
_CL100K = ("gpt-4-", "gpt-3.5", "gpt-35")
# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions
_TOKENS_A_MESSAGE = 3
_TOKENS_A_REPLY = 3


def estimate_usage(
    prompt: Sequence[BaseMessage], output: Iterable[BaseMessage], params: Mapping[str, Any], model: str
) -> TokenUsage:
    """Return the likely usage of a call: messages and tool schemas sent, text and tool calls received so far.

    Reasoning is not invented, and images, audio and files sent are not counted.
    """
    tools = params.get("tools")
    sent = "\n".join([*map(_text, prompt), *map(_json, tools if isinstance(tools, list) else ())])
    received = "".join(map(_text, output))
    overhead = _TOKENS_A_MESSAGE * len(prompt) + _TOKENS_A_REPLY if prompt else 0
    return TokenUsage(
        input_tokens=count_tokens(sent, model) + overhead,
        output_tokens=count_tokens(received, model) if received else 0,
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
    blocks = content if isinstance(content, list) else [content]
    words = [block if isinstance(block, str) else _block_text(block) for block in blocks]
    calls = getattr(message, "tool_calls", None) or getattr(message, "tool_call_chunks", None)
    listed = [call for call in calls if isinstance(call, Mapping)] if isinstance(calls, list) else []
    words += [f"{call.get('name') or ''}{_json(call.get('args') or '')}" for call in listed]
    return "".join(words)


def _block_text(block: object) -> str:
    if not isinstance(block, Mapping):
        return ""
    return next((text for key in ("text", "thinking", "reasoning") if isinstance(text := block.get(key), str)), "")


def _json(value: object) -> str:
    return (
        value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    )
