"""Gemini's wire format: generateContent and streamGenerateContent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.parsed_request import split_tokens
from tests.support.scripted_answer import Chunk, ModelAnswer, pretty

__all__ = ["content", "content_events", "error"]

_TOKENS_PER_EVENT = 24
_IMAGE_TOKENS = 1120  # an image of 1024 by 1024 pixels, from gemini-3-pro-image-preview


def error(status: int, message: str) -> str:
    name = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
    return pretty({"error": {"code": status, "message": message, "status": name}})


def content(answer: ModelAnswer) -> Chunk:
    """Shape: https://ai.google.dev/api/generate-content#v1.GenerateContentResponse."""
    parts = _parts(answer)
    if answer.text:
        parts.insert(0, {"text": answer.text})
    body = _event(answer, parts, answer.output_tokens, last=True)
    return Chunk(pretty(body), answer.output_tokens + (_IMAGE_TOKENS if answer.picture else 0))


def content_events(answer: ModelAnswer) -> Iterator[Chunk]:
    """The same in the format of ``alt=sse``: every event has the usage so far."""
    written = 0
    for tokens, piece in split_tokens(answer.text, _TOKENS_PER_EVENT) if answer.text else ():
        # The pieces can have a token more than the whole text, but the billed count never falls.
        written = min(written + tokens, answer.output_tokens)
        yield Chunk(_data(_event(answer, [{"text": piece}], written)), tokens)
    if parts := _parts(answer):
        yield Chunk(_data(_event(answer, parts, answer.output_tokens)), _IMAGE_TOKENS if answer.picture else 0)
    yield Chunk(_data(_event(answer, [{"text": ""}], answer.output_tokens, last=True)))


def _parts(answer: ModelAnswer) -> list[dict[str, Any]]:
    """Return the parts without text."""
    parts: list[dict[str, Any]] = []
    for number, (name, arguments) in enumerate(answer.calls):
        call = {"name": name, "args": arguments, "id": f"{answer.digest[:7]}{number}"}
        parts.append({"functionCall": call, "thoughtSignature": _signature(answer)})
    if answer.picture:
        drawn = {"mimeType": "image/png", "data": answer.picture}
        parts.append({"inlineData": drawn, "thoughtSignature": _signature(answer)})
    return parts


def _event(answer: ModelAnswer, parts: list[dict[str, Any]], written: int, *, last: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if last:
        candidate["finishReason"] = "STOP"
    candidate["index"] = 0
    if last and answer.searches:
        candidate["groundingMetadata"] = _grounding(answer)
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(answer, written, last=last),
        "modelVersion": answer.model,
        "responseId": answer.digest[:22],
    }


def _usage(answer: ModelAnswer, written: int, *, last: bool) -> dict[str, Any]:
    drawn = _IMAGE_TOKENS if answer.picture else 0
    found = answer.search_tokens if last else 0
    text = answer.input_tokens - answer.image_tokens
    prompt = [{"modality": "TEXT", "tokenCount": text}]
    if answer.image_tokens:
        prompt.append({"modality": "IMAGE", "tokenCount": answer.image_tokens})
    usage: dict[str, Any] = {
        "promptTokenCount": answer.input_tokens,
        "candidatesTokenCount": written + drawn,
        "totalTokenCount": answer.input_tokens + written + drawn + found + answer.reasoning_tokens,
    }
    if answer.cached_tokens:
        usage["cachedContentTokenCount"] = answer.cached_tokens
    usage["promptTokensDetails"] = prompt
    if answer.cached_tokens:
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": answer.cached_tokens}]
    if drawn:
        usage["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": drawn}]
    if found:
        usage["toolUsePromptTokenCount"] = found
        usage["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": found}]
    if answer.reasoning_tokens:
        usage["thoughtsTokenCount"] = answer.reasoning_tokens
    return {**usage, "serviceTier": "standard"}


def _grounding(answer: ModelAnswer) -> dict[str, Any]:
    """Shape: https://ai.google.dev/api/generate-content#GroundingMetadata; indices count bytes."""
    supports = []
    for number, source in enumerate(answer.sources):
        before, found, _ = answer.text.partition(source.quote)
        if found:
            begin = len(before.encode())
            segment = {**({"startIndex": begin} if begin else {}), "endIndex": begin + len(found.encode())}
            supports.append({"segment": {**segment, "text": found}, "groundingChunkIndices": [number]})
    return {
        "searchEntryPoint": {"renderedContent": '<div class="container"></div>'},
        "groundingChunks": [{"web": {"uri": source.url, "title": source.title}} for source in answer.sources],
        "groundingSupports": supports,
        "webSearchQueries": list(answer.searches),
    }


def _signature(answer: ModelAnswer) -> str:
    return base64.b64encode(bytes.fromhex(answer.digest)).decode()


def _data(event: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n"
