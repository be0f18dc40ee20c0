"""What a stand-in says to a request, and the tokens of that: whatever the wire it goes over."""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests.support.parsed_request import Question, count
from tests.support.scripts import Answer, Source

__all__ = ["Chunk", "Said", "picture", "pretty", "say"]


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer's body, and how many tokens the model wrote for it."""

    text: str
    tokens: int = 0


@dataclass(frozen=True)
class Said:
    """An answer as it goes over the wire.

    Attributes:
        text: The words, or the JSON.
        calls: Functions to call, with their arguments.
        searches: What was searched for, and ``sources`` what was found.
        picture: A PNG.
        input_tokens: The prompt's tokens; ``cached_tokens`` of them were in the cache, ``image_tokens`` images.
        found_tokens: Tokens of what the search found, which the model reads as well.
        output_tokens: Tokens of the text and the calls, without the reasoning.
        reasoning_tokens: Tokens of the draft.
        mark: Hexadecimal digits that are the same for equal requests: ids are made of them.
    """

    model: str
    text: str
    calls: tuple[tuple[str, Mapping[str, Any]], ...]
    searches: tuple[str, ...]
    sources: tuple[Source, ...]
    picture: str
    input_tokens: int
    cached_tokens: int
    image_tokens: int
    found_tokens: int
    output_tokens: int
    reasoning_tokens: int
    mark: str


def say(question: Question, answer: Answer, *, cached_tokens: int, image_tokens: int, draws: bool) -> Said:
    """Say of an answer what the request offers and wants.

    Args:
        question: The request.
        answer: The script's answer.
        cached_tokens: How many of the prompt's first tokens were in the cache.
        image_tokens: What one image of the prompt costs.
        draws: Whether the model can draw.
    """
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    text = answer.text
    if question.functions and answer.calls and not question.answered:
        calls, text = tuple(_call(question, *call) for call in answer.calls), ""
    elif question.schema and answer.fields:
        text = json.dumps(_fit(question.schema, answer.fields, question.schema), ensure_ascii=False)
    can_search = {"web_search", "google_search"} & {*question.builtin}
    searches, sources = (answer.searches, answer.sources) if can_search else ((), ())
    written = text + "".join(f"{name}{json.dumps(arguments, ensure_ascii=False)}" for name, arguments in calls)
    found = "\n".join((*searches, *(f"{source.title}\n{source.url}\n{source.quote}" for source in sources)))
    images = question.images * image_tokens
    return Said(
        model=question.model,
        text=text,
        calls=calls,
        searches=searches,
        sources=sources,
        picture=base64.b64encode(picture()).decode() if answer.picture and draws else "",
        input_tokens=len(question.tokens) + images,
        cached_tokens=cached_tokens,
        image_tokens=images,
        found_tokens=count(found),
        output_tokens=count(written),
        # A model that thinks drafts its answer first.
        reasoning_tokens=count(f"{question.asked}\n{written}") if question.reasons else 0,
        mark=hashlib.sha256(json.dumps(question.tokens).encode()).hexdigest(),
    )


def pretty(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


@cache
def picture() -> bytes:
    """Return a PNG of 1024 by 1024 pixels: a bottle, in four colours."""
    size, white, green, blue = 1024, 0, 1, 2

    def colour(x: int, y: int) -> int:
        if 432 <= x < 592 and 160 <= y < 240:
            return green
        return blue if 352 <= x < 672 and 240 <= y < 880 else white

    rows = [bytes(_packed([colour(x, y) for x in range(size)])) for y in (0, 200, 500)]
    lines = b"".join(b"\0" + rows[1 if 160 <= y < 240 else 2 if 240 <= y < 880 else 0] for y in range(size))
    header = struct.pack(">IIBBBBB", size, size, 2, 3, 0, 0, 0)
    palette = bytes((255, 255, 255, 46, 139, 87, 173, 216, 230, 0, 0, 0))
    parts = ((b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )


def _packed(pixels: list[int]) -> list[int]:
    return [(a << 6) | (b << 4) | (c << 2) | d for a, b, c, d in zip(*[iter(pixels)] * 4, strict=True)]


def _call(question: Question, name: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    offered = name if name in question.functions else next(iter(question.functions))
    schema = question.functions[offered]
    fitted: Mapping[str, Any] = _fit(schema, arguments, schema) if schema.get("properties") else {}
    return offered, fitted


def _fit(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]) -> Any:
    """Return a value that the schema allows, and that is this one as far as it is allowed."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        schema = {**root.get("$defs", root.get("defs", {}))[name], **schema, "$ref": None}
        return _fit({key: item for key, item in schema.items() if key != "$ref"}, value, root)
    choices = schema.get("anyOf") or schema.get("allOf")
    if choices:
        real = [choice for choice in choices if str(choice.get("type")).lower() != "null"]
        return None if value is None and len(real) < len(choices) else _fit(real[0], value, root)
    if allowed := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return value if value in allowed else allowed[0]
    match str(schema.get("type", "string")).lower():
        case "object":
            fields = value if isinstance(value, Mapping) else {}
            wanted = schema.get("required", schema.get("properties", {}))
            return {
                name: _fit(part, fields.get(name), root)
                for name, part in schema.get("properties", {}).items()
                if name in fields or name in wanted
            }
        case "array":
            items = value if isinstance(value, list | tuple) else [] if value is None else [value]
            return [_fit(schema.get("items", {}), item, root) for item in items]
        case "integer" | "number":
            return value if isinstance(value, int | float) else schema.get("minimum", 0)
        case "boolean":
            return bool(value)
    return "" if value is None else str(value)
