"""Gemini's answers as they stand on the wire: generateContent and streamGenerateContent."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from typing import Any

from tests.support.parsed_request import words
from tests.support.scripted_answer import Chunk, Said, pretty

__all__ = ["content", "content_events", "error"]

_TOKENS_PER_EVENT = 24
_IMAGE_TOKENS = 1120  # an image of 1024 by 1024 pixels, from gemini-3-pro-image-preview


def error(status: int, message: str) -> str:
    name = {400: "INVALID_ARGUMENT", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}.get(status, "INTERNAL")
    return pretty({"error": {"code": status, "message": message, "status": name}})


def content(said: Said) -> Chunk:
    """Shape: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse."""
    parts = _parts(said)
    if said.text:
        parts.insert(0, {"text": said.text})
    body = _event(said, parts, said.output_tokens, last=True)
    return Chunk(pretty(body), said.output_tokens + (_IMAGE_TOKENS if said.picture else 0))


def content_events(said: Said) -> Iterator[Chunk]:
    """The same as ``alt=sse`` writes it: usage in every event, counted up to there."""
    written = 0
    for tokens, piece in words(said.text, _TOKENS_PER_EVENT) if said.text else ():
        # Cut elsewhere the pieces can come to a token more than the whole; what is billed never falls.
        written = min(written + tokens, said.output_tokens)
        yield Chunk(_data(_event(said, [{"text": piece}], written)), tokens)
    if parts := _parts(said):
        yield Chunk(_data(_event(said, parts, said.output_tokens)), _IMAGE_TOKENS if said.picture else 0)
    yield Chunk(_data(_event(said, [{"text": ""}], said.output_tokens, last=True)))


def _parts(said: Said) -> list[dict[str, Any]]:
    """Return the parts that are no text."""
    parts: list[dict[str, Any]] = []
    for number, (name, arguments) in enumerate(said.calls):
        call = {"name": name, "args": arguments, "id": f"{said.mark[:7]}{number}"}
        parts.append({"functionCall": call, "thoughtSignature": _signature(said)})
    if said.picture:
        drawn = {"mimeType": "image/png", "data": said.picture}
        parts.append({"inlineData": drawn, "thoughtSignature": _signature(said)})
    return parts


def _event(said: Said, parts: list[dict[str, Any]], written: int, *, last: bool = False) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}}
    if last:
        candidate["finishReason"] = "STOP"
    candidate["index"] = 0
    if last and said.searches:
        candidate["groundingMetadata"] = _grounding(said)
    return {
        "candidates": [candidate],
        "usageMetadata": _usage(said, written, last=last),
        "modelVersion": said.model,
        "responseId": said.mark[:22],
    }


def _usage(said: Said, written: int, *, last: bool) -> dict[str, Any]:
    drawn = _IMAGE_TOKENS if said.picture else 0
    found = said.found_tokens if last else 0
    text = said.input_tokens - said.image_tokens
    prompt = [{"modality": "TEXT", "tokenCount": text}]
    if said.image_tokens:
        prompt.append({"modality": "IMAGE", "tokenCount": said.image_tokens})
    usage: dict[str, Any] = {
        "promptTokenCount": said.input_tokens,
        "candidatesTokenCount": written + drawn,
        "totalTokenCount": said.input_tokens + written + drawn + found + said.reasoning_tokens,
    }
    if said.cached_tokens:
        usage["cachedContentTokenCount"] = said.cached_tokens
    usage["promptTokensDetails"] = prompt
    if said.cached_tokens:
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": said.cached_tokens}]
    if drawn:
        usage["candidatesTokensDetails"] = [{"modality": "IMAGE", "tokenCount": drawn}]
    if found:
        usage["toolUsePromptTokenCount"] = found
        usage["toolUsePromptTokensDetails"] = [{"modality": "TEXT", "tokenCount": found}]
    if said.reasoning_tokens:
        usage["thoughtsTokenCount"] = said.reasoning_tokens
    return {**usage, "serviceTier": "standard"}


def _grounding(said: Said) -> dict[str, Any]:
    """Shape: https://ai.google.dev/api/generate-content#GroundingMetadata; indices count bytes."""
    supports = []
    for number, source in enumerate(said.sources):
        before, found, _ = said.text.partition(source.quote)
        if found:
            begin = len(before.encode())
            segment = {**({"startIndex": begin} if begin else {}), "endIndex": begin + len(found.encode())}
            supports.append({"segment": {**segment, "text": found}, "groundingChunkIndices": [number]})
    return {
        "searchEntryPoint": {"renderedContent": '<div class="container"></div>'},
        "groundingChunks": [{"web": {"uri": source.url, "title": source.title}} for source in said.sources],
        "groundingSupports": supports,
        "webSearchQueries": list(said.searches),
    }


def _signature(said: Said) -> str:
    return base64.b64encode(bytes.fromhex(said.mark)).decode()


def _data(event: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n"
