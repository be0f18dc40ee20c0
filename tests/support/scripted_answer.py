"""A stand-in's answer to a request and its tokens, independent of the wire format."""

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

from tests.support.parsed_request import ParsedRequest, count_tokens
from tests.support.scripts import Answer, Source

__all__ = ["Chunk", "ModelAnswer", "fit_answer", "picture", "pretty"]


@dataclass(frozen=True)
class Chunk:
    """A piece of an answer's body and its output tokens."""

    text: str
    tokens: int = 0


@dataclass(frozen=True)
class ModelAnswer:
    """The content of an answer.

    Attributes:
        text: The text or the JSON.
        calls: The function calls with their arguments.
        searches: The search queries; ``sources`` are the results.
        picture: A PNG in base64.
        input_tokens: The prompt's tokens, including ``cached_tokens`` and ``image_tokens``.
        search_tokens: The tokens of the search results, which the model reads too.
        output_tokens: The tokens of the text and the calls, without reasoning.
        reasoning_tokens: The tokens of the reasoning.
        digest: Hexadecimal digits for ids. Equal requests have equal digests.
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
    search_tokens: int
    output_tokens: int
    reasoning_tokens: int
    digest: str


def fit_answer(
    request: ParsedRequest, answer: Answer, *, cached_tokens: int, image_tokens: int, draws: bool
) -> ModelAnswer:
    """Return the parts of a scripted answer that the request allows.

    Args:
        request: The request.
        answer: The script's answer.
        cached_tokens: The number of the prompt's first tokens that were cached.
        image_tokens: The tokens of one image of the prompt.
        draws: Whether the model can draw.
    """
    calls: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    text = answer.text
    if request.functions and answer.calls and not request.has_tool_result:
        calls, text = tuple(_call(request, *call) for call in answer.calls), ""
    elif request.schema and answer.fields:
        text = json.dumps(_fit(request.schema, answer.fields, request.schema), ensure_ascii=False)
    can_search = {"web_search", "google_search"} & {*request.builtin}
    searches, sources = (answer.searches, answer.sources) if can_search else ((), ())
    written = text + "".join(f"{name}{json.dumps(arguments, ensure_ascii=False)}" for name, arguments in calls)
    found = "\n".join((*searches, *(f"{source.title}\n{source.url}\n{source.quote}" for source in sources)))
    images = request.images * image_tokens
    return ModelAnswer(
        model=request.model,
        text=text,
        calls=calls,
        searches=searches,
        sources=sources,
        picture=base64.b64encode(picture()).decode() if answer.picture and draws else "",
        input_tokens=len(request.tokens) + images,
        cached_tokens=cached_tokens,
        image_tokens=images,
        search_tokens=count_tokens(found),
        output_tokens=count_tokens(written),
        # The stand-in's reasoning repeats the question and drafts the answer.
        reasoning_tokens=count_tokens(f"{request.last_user_text}\n{written}") if request.reasoning else 0,
        digest=hashlib.sha256(json.dumps(request.tokens).encode()).hexdigest(),
    )


def pretty(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


@cache
def picture() -> bytes:
    """Return a PNG of 1024 by 1024 pixels: a bottle in four colours."""
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


def _call(request: ParsedRequest, name: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    offered = name if name in request.functions else next(iter(request.functions))
    schema = request.functions[offered]
    fitted: Mapping[str, Any] = _fit(schema, arguments, schema) if schema.get("properties") else {}
    return offered, fitted


def _fit(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any]) -> Any:
    """Return the value as far as the schema allows it, else a value that the schema allows."""
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
            required = schema.get("required", schema.get("properties", {}))
            return {
                name: _fit(part, fields.get(name), root)
                for name, part in schema.get("properties", {}).items()
                if name in fields or name in required
            }
        case "array":
            items = value if isinstance(value, list | tuple) else [] if value is None else [value]
            return [_fit(schema.get("items", {}), item, root) for item in items]
        case "integer" | "number":
            return value if isinstance(value, int | float) else schema.get("minimum", 0)
        case "boolean":
            return bool(value)
    return "" if value is None else str(value)
