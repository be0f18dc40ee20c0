"""What a request asks of a model, read from whichever API it came by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from rs_bpe.bpe import openai

__all__ = ["Question", "count", "encode", "from_chat", "from_gemini", "from_responses", "words"]

_IMAGE = "\N{OBJECT REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Question:
    """A request to a model.

    Attributes:
        model: The model asked for.
        system: What the system, the developer or ``instructions`` said.
        messages: Role (``user``, ``assistant``, ``tool``) and text of all others.
        functions: The offered functions by name, with their parameters' schema.
        builtin: The offered tools of the provider's own: ``web_search``, ``image_generation``, ``google_search``.
        schema: The answer's JSON schema.
        images: How many images came along.
        reasons: Whether the model thinks before it answers.
    """

    model: str
    system: str
    messages: tuple[tuple[str, str], ...]
    functions: Mapping[str, Any]
    builtin: tuple[str, ...]
    schema: Mapping[str, Any] | None
    images: int
    reasons: bool

    @cached_property
    def node(self) -> str:
        """The node it came from: its prompt begins with ``# <node>``."""
        texts = (self.system, *(text for _, text in self.messages))
        marks = (re.match(r"\s*# (\w+)\s*$", text, re.MULTILINE) for text in texts)
        return next((mark[1] for mark in marks if mark), "")

    @property
    def text(self) -> str:
        """All that was said, in order."""
        return "\n".join((self.system, *(text for _, text in self.messages)))

    @property
    def asked(self) -> str:
        """What the user said last."""
        return next((text for role, text in reversed(self.messages) if role == "user"), "")

    @property
    def answered(self) -> bool:
        """Whether functions have been called since the user spoke."""
        return bool(self.messages) and self.messages[-1][0] == "tool"

    @cached_property
    def tokens(self) -> list[int]:
        """The prompt as a model reads it: tools and schema first, then the conversation."""
        offered = [*self.builtin, *self.functions.items(), *([self.schema] if self.schema else [])]
        head = json.dumps(offered, ensure_ascii=False) if offered else ""
        turns = "".join(f"<{role}>{text}\n" for role, text in self.messages)
        return encode(f"{head}<system>{self.system}\n{turns}<assistant>")


def encode(text: str) -> list[int]:
    return openai.o200k_base().encode(text)


def count(text: str) -> int:
    return openai.o200k_base().count(text)


def words(text: str, at_least: int) -> Iterator[tuple[int, str]]:
    """Cut a text between words into pieces of some tokens, each with how many these are."""
    piece = ""
    for word in re.findall(r"\s*\S+\s*$|\s*\S+", text) or [text]:
        piece += word
        if count(piece) >= at_least:
            yield count(piece), piece
            piece = ""
    if piece:
        yield count(piece), piece


def from_chat(body: Mapping[str, Any]) -> Question:
    """Shape: https://platform.openai.com/docs/api-reference/chat/create."""
    messages = [(_role(message["role"]), _chat_text(message)) for message in body["messages"]]
    tools = [tool["function"] for tool in body.get("tools", ())]
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema")
    return _question(body["model"], messages, tools, (), schema, _effort(body.get("reasoning_effort")))


def from_responses(body: Mapping[str, Any]) -> Question:
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
    return _question(
        body["model"], messages, tools, builtin, schema, _effort((body.get("reasoning") or {}).get("effort"))
    )


def from_gemini(model: str, body: Mapping[str, Any]) -> Question:
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
    reasons = thinking.get("thinkingBudget") != 0 and str(thinking.get("thinkingLevel")).lower() != "minimal"
    return _question(model, messages, tools, builtin, schema, reasons)


def _question(
    model: str,
    messages: Sequence[tuple[str, str]],
    tools: Sequence[Mapping[str, Any]],
    builtin: tuple[str, ...],
    schema: Mapping[str, Any] | None,
    reasons: bool,
) -> Question:
    return Question(
        model=model,
        system="\n".join(text for role, text in messages if role == "system"),
        messages=tuple((role, text) for role, text in messages if role != "system"),
        functions={tool["name"]: tool.get("parametersJsonSchema") or tool.get("parameters") or {} for tool in tools},
        builtin=builtin,
        schema=schema,
        images=sum(text.count(_IMAGE) for _, text in messages),
        reasons=reasons,
    )


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _effort(effort: str | None) -> bool:
    """Say whether gpt-5.2 reasons: not unless asked to."""
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
