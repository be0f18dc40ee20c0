"""Parses model requests of all provider APIs into one form."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import bpe_openai

__all__ = ["ParsedRequest", "count_tokens", "encode", "from_chat", "from_gemini", "from_responses", "split_tokens"]

_IMAGE = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class ParsedRequest:
    """A request to a model.

    Attributes:
        model: The requested model.
        system: The text of the system prompt: system, developer and ``instructions``.
        messages: Role (``user``, ``assistant``, ``tool``) and text of all other messages.
        functions: The offered functions by name, with the schema of their parameters.
        builtin: The offered built-in tools: ``web_search``, ``image_generation``, ``google_search``.
        schema: The JSON schema of the answer.
        images: The number of images.
        reasoning: Whether the model reasons before it answers.
    """

    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    functions: Mapping[str, Any]
    builtin: tuple[str, ...]
    schema: Mapping[str, Any] | None
    images: int
    reasoning: bool

    @cached_property
    def node(self) -> str:
        """The node that sent the request. Its prompt begins with ``# <node>``."""
        texts = (self.system, *(text for _, text in self.messages))
        marks = (re.match(r"\s*# (\w+)\s*$", text, re.MULTILINE) for text in texts)
        return next((mark[1] for mark in marks if mark), "")

    @property
    def text(self) -> str:
        """The text of all messages, in order."""
        return "\n".join((self.system, *(text for _, text in self.messages)))

    @property
    def last_user_text(self) -> str:
        """The last user message."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")

    @property
    def has_tool_result(self) -> bool:
        """Whether the last message is a tool's result."""
        return bool(self.messages) and self.messages[-1][0] == "tool"

    @cached_property
    def tokens(self) -> list[int]:
        """The tokens of the prompt: tools and schema first, then the conversation."""
        offered = [*self.builtin, *self.functions.items(), *([self.schema] if self.schema else [])]
        head = json.dumps(offered, ensure_ascii=False) if offered else ""
        turns = "".join(f"<{role}>{text}\n" for role, text in self.messages)
        return encode(f"{head}<system>{self.system}\n{turns}<assistant>")


def encode(text: str) -> list[int]:
    return _encoding().encode_ordinary(text)


def count_tokens(text: str) -> int:
    return len(encode(text))


@cache
def _encoding() -> bpe_openai.Encoding:
    return bpe_openai.get_encoding("o200k_base")


def split_tokens(text: str, at_least: int) -> Iterator[tuple[int, str]]:
    """Split a text between words into pieces of at least this many tokens; yield each with its token count."""
    piece = ""
    for word in re.findall(r"\s*\S+\s*$|\s*\S+", text) or [text]:
        piece += word
        if count_tokens(piece) >= at_least:
            yield count_tokens(piece), piece
            piece = ""
    if piece:
        yield count_tokens(piece), piece


def from_chat(body: Mapping[str, Any]) -> ParsedRequest:
    """Shape: https://platform.openai.com/docs/api-reference/chat/create."""
    messages = [(_role(message["role"]), _chat_text(message)) for message in body["messages"]]
    tools = [tool["function"] for tool in body.get("tools", ())]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return _parsed_request(body["model"], messages, tools, (), schema, _effort(body.get("reasoning_effort")))


def from_responses(body: Mapping[str, Any]) -> ParsedRequest:
    """Shape: https://platform.openai.com/docs/api-reference/responses/create."""
    items = [{"role": "user", "content": body["input"]}] if isinstance(body["input"], str) else body["input"]
    messages = [("system", body["instructions"])] if body.get("instructions") else []
    for item in items:
        match item.get("type", "message"):
            case "message":
                messages.append((_role(item["role"]), _parts(item["content"])))
            case "function_call":
                messages.append(("assistant", f"{item['name']}({item['arguments']})"))
            case "function_call_output":
                messages.append(("tool", _parts(item["output"])))
    tools = [tool for tool in body.get("tools", ()) if tool["type"] == "function"]
    builtin = tuple(tool["type"] for tool in body.get("tools", ()) if tool["type"] != "function")
    schema = body.get("text", {}).get("format", {}).get("schema")
    return _parsed_request(
        body["model"], messages, tools, builtin, schema, _effort((body.get("reasoning") or {}).get("effort"))
    )


def from_gemini(model: str, body: Mapping[str, Any]) -> ParsedRequest:
    """Shape: https://ai.google.dev/api/generate-content."""
    config = body.get("generationConfig", {})
    messages = [("system", _gemini_text(body.get("systemInstruction", {}).get("parts", ())))]
    for content in body["contents"]:
        role = {"model": "assistant"}.get(content.get("role", "user"), "user")
        if any("functionResponse" in part for part in content["parts"]):
            role = "tool"
        messages.append((role, _gemini_text(content["parts"])))
    tools = [function for tool in body.get("tools", ()) for function in tool.get("functionDeclarations", ())]
    builtin = tuple(
        {"googleSearch": "google_search"}.get(name, name)
        for tool in body.get("tools", ())
        for name in tool
        if name != "functionDeclarations"
    )
    schema = config.get("responseJsonSchema") or config.get("responseSchema")
    thinking = config.get("thinkingConfig", {})
    reasoning = thinking.get("thinkingBudget") != 0 and str(thinking.get("thinkingLevel")).lower() != "minimal"
    return _parsed_request(model, messages, tools, builtin, schema, reasoning)


def _parsed_request(
    model: str,
    messages: Sequence[tuple[str, str]],
    tools: Sequence[Mapping[str, Any]],
    builtin: tuple[str, ...],
    schema: Mapping[str, Any] | None,
    reasoning: bool,
) -> ParsedRequest:
    return ParsedRequest(
        model=model,
        system="\n".join(text for role, text in messages if role == "system"),
        messages=tuple((role, text) for role, text in messages if role != "system"),
        functions={tool["name"]: tool.get("parametersJsonSchema") or tool.get("parameters") or {} for tool in tools},
        builtin=builtin,
        schema=schema,
        images=sum(text.count(_IMAGE) for _, text in messages),
        reasoning=reasoning,
    )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _effort(effort: str | None) -> bool:
    """Return whether gpt-5.2 reasons. It does not unless requested."""
    return effort not in {None, "none"}


def _chat_text(message: Mapping[str, Any]) -> str:
    calls = [f"{call['function']['name']}({call['function']['arguments']})" for call in message.get("tool_calls") or ()]
    return "\n".join(filter(None, [_parts(message.get("content") or ""), *calls]))


def _parts(content: str | Sequence[Mapping[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(_IMAGE if "image_url" in part else part.get("text", "") for part in content)


def _gemini_text(parts: Sequence[Mapping[str, Any]]) -> str:
    texts = []
    for part in parts:
        if "text" in part:
            texts.append(part["text"])
        elif "inlineData" in part:
            texts.append(_IMAGE)
        else:
            called = part.get("functionCall") or part.get("functionResponse") or {}
            texts.append(json.dumps(called, ensure_ascii=False, sort_keys=True))
    return "\n".join(texts)
