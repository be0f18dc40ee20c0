"""What LangChain loses of Gemini's usage, worked out again: image, speech and audio tokens, searches, Maps."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage

from eco2_callbacks.media import audio_seconds, block_bytes, image_class, image_pixels
from eco2_callbacks.usage import TokenUsage

__all__ = ["AUDIO_TOKENS_A_SECOND", "GOOGLE", "complete", "image_output_tokens"]

GOOGLE = frozenset({"google_genai", "google_vertexai"})

# "Gemini represents each second of audio as 32 tokens": https://ai.google.dev/gemini-api/docs/audio
AUDIO_TOKENS_A_SECOND = 32
# Tokens of a generated image by size: https://ai.google.dev/gemini-api/docs/image-generation and .../pricing.
# The first name that the model's begins with; a new image model is priced as its generation's until it stands here.
_IMAGE_TOKENS: Mapping[str, Mapping[str, int]] = {
    "gemini-3-pro-image": {"512x512": 1120, "1K": 1120, "2K": 1120, "4K": 2000},
    "gemini-3.1-flash-image": {"512x512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
    "gemini-3": {"512x512": 1120, "1K": 1120, "2K": 1120, "4K": 2000},
    "gemini-2": {"512x512": 1290, "1K": 1290, "2K": 1290, "4K": 1290},
}
_GENERATION = re.compile(r"gemini-(\d{1,3})")
_AUDIO_TYPES = ("audio", "input_audio", "video")


def complete(
    usage: TokenUsage, answers: Sequence[BaseMessage], prompt: Sequence[BaseMessage], model: str
) -> tuple[TokenUsage, bool]:
    """Return the usage with what the message tells besides its counts, and whether that is exact.

    Image output follows from the number and size of the images by the documented tokens an image; a speech model's
    output is audio; audio input follows from its playing time, or stays text where that cannot be read, and is never
    exact. Searches: from Gemini 3 on each unique query is billed, before that each prompt that searched.
    """
    changes: dict[str, Any] = {}
    exact = True
    if sizes := _sizes(answers):
        tokens = sum(_image_tokens(model)[size] for size in sizes)
        room = max(0, usage.output_tokens - usage.reasoning_tokens - usage.output_audio_tokens)
        exact = tokens <= room
        changes["images"], changes["image_sizes"] = len(sizes), tuple(sizes)
        changes["output_image_tokens"] = min(tokens, room)
    if "-tts" in model:
        silent = usage.reasoning_tokens + changes.get("output_image_tokens", 0)
        changes["output_audio_tokens"] = usage.output_tokens - silent
    if prompt and (sound := [block for block in _blocks(prompt) if _has_sound(block)]):
        exact = False
        seconds = sum(audio_seconds(block_bytes(block) or b"") or 0 for block in sound)
        room = usage.input_tokens - usage.cache_creation_tokens
        audio = min(round(seconds * AUDIO_TOKENS_A_SECOND), room)
        changes["input_audio_tokens"] = audio
        # Nobody tells how much is both; this much must be.
        changes["cache_read_audio_tokens"] = max(0, usage.cache_read_tokens + audio - room)
    grounding = [data for message in answers if (data := _grounding(message))]
    if grounding:
        changes["web_searches"] = _billed(_texts(grounding, "web_search_queries", "image_search_queries"), model)
        if any(chunk.get("maps") for chunk in _items(grounding, "grounding_chunks") if isinstance(chunk, Mapping)):
            changes["maps_groundings"] = max(1, _billed(_texts(grounding, "retrieval_queries"), model))
    return (replace(usage, **changes) if changes else usage), exact


def image_output_tokens(answers: Sequence[BaseMessage], model: str) -> int:
    """Return the tokens of the images in answers."""
    return sum(_image_tokens(model)[size] for size in _sizes(answers))


def _sizes(answers: Sequence[BaseMessage]) -> list[str]:
    images = (block for block in _blocks(answers) if block.get("type") in ("image", "image_url"))
    return [image_class(image_pixels(image)) for image in images]


def _grounding(message: BaseMessage) -> Any:
    metadata = getattr(message, "response_metadata", None)
    return metadata.get("grounding_metadata") if isinstance(metadata, Mapping) else None


def _blocks(messages: Sequence[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        content = getattr(message, "content", None)
        if isinstance(content, list):
            for block in content:
                if isinstance(block, Mapping):
                    yield block


def _has_sound(block: Mapping[str, Any]) -> bool:
    kind, mime = block.get("type"), str(block.get("mime_type", ""))
    return kind in _AUDIO_TYPES or mime.startswith(("audio/", "video/"))


def _image_tokens(model: str) -> Mapping[str, int]:
    for name, tokens in _IMAGE_TOKENS.items():
        if model.startswith(name):
            return tokens
    return _IMAGE_TOKENS["gemini-3"]


def _billed(queries: set[str], model: str) -> int:
    generation = _GENERATION.match(model)
    by_prompt = generation is not None and int(generation[1]) < 3
    return min(1, len(queries)) if by_prompt else len(queries)


def _texts(grounding: Sequence[Any], *keys: str) -> set[str]:
    return {text for key in keys for text in _items(grounding, key) if isinstance(text, str) and text}


def _items(grounding: Sequence[Any], key: str) -> Iterator[Any]:
    for data in grounding:
        items = data.get(key) if isinstance(data, Mapping) else None
        if isinstance(items, list):
            yield from items
