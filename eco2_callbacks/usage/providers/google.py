"""Gemini's rules: LangChain loses its image, speech and audio tokens, and its grounding is billed by the piece."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_list, as_mapping, blocks_of
from eco2_callbacks.usage.media import audio_seconds, block_bytes, image_class, image_pixels
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, pixels_of
from eco2_callbacks.usage.reported import Reading, count_of
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["GoogleRules"]

_GENERATION = re.compile(r"gemini-(\d{1,3})")
# Before Gemini 3: https://ai.google.dev/gemini-api/docs/tokens#multimodal-tokens
_TILE_TOKENS = 258
# From Gemini 3 on, whatever the size: https://ai.google.dev/gemini-api/docs/media-resolution
_RESOLUTION_TOKENS = {"LOW": 280, "MEDIUM": 560, "HIGH": 1120, "ULTRA_HIGH": 2240}
# Tokens of a generated image by size: https://ai.google.dev/gemini-api/docs/image-generation and .../pricing.
# The first prefix of the model's name holds. A new image model counts like its generation until it has a row here.
_OUTPUT_IMAGE_TOKENS: Mapping[str, Mapping[str, int]] = {
    "gemini-3-pro-image": {"512x512": 1120, "1K": 1120, "2K": 1120, "4K": 2000},
    "gemini-3.1-flash-image": {"512x512": 747, "1K": 1120, "2K": 1680, "4K": 2520},
    "gemini-3": {"512x512": 1120, "1K": 1120, "2K": 1120, "4K": 2000},
    "gemini-2": {"512x512": 1290, "1K": 1290, "2K": 1290, "4K": 1290},
}
# Those that can stand beside functions in one tool of the request.
_OWN_TOOLS = frozenset({"code_execution", "file_search", "google_maps", "google_search", "url_context"})
_FIELD_OF_TEXT = re.compile(r"(\w+) \{")
_PUBLISHER = "google/"
_ENTERPRISE = "enterprise_web_search"
# https://docs.cloud.google.com/vertex-ai/generative-ai/docs/flex-paygo
_TIER_HEADER = "x-vertex-ai-llm-shared-request-type"
_AUDIO_TYPES = ("audio", "input_audio", "video")


class GoogleRules(ProviderRules):
    """Gemini on Google's own API and on Vertex AI."""

    names: ClassVar[frozenset[str]] = frozenset({"google_genai", "google_vertexai"})
    streams_parts: ClassVar[bool] = True
    # As far as the total is not the prompt of Google's own tools.
    total_holds_reasoning: ClassVar[bool] = True
    bills_prompt_blocks: ClassVar[bool] = True
    # "Gemini represents each second of audio as 32 tokens": https://ai.google.dev/gemini-api/docs/audio
    audio_tokens_per_second: ClassVar[int] = 32

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts with their modalities, where the answer still holds Gemini's own usage."""
        usage, is_certain = super().read_usage(usage, exchange)
        read_by_tools = self._tool_prompt_tokens(usage, exchange)
        if read_by_tools is None:
            is_certain = False
        elif read_by_tools:
            usage = replace(
                usage,
                input_tokens=usage.input_tokens + read_by_tools,
                output_tokens=usage.output_tokens - read_by_tools,
            )
        reported = exchange.answer.reported
        sent = _modalities(reported, "prompt_tokens_details", "tool_use_prompt_tokens_details")
        cached = _modalities(reported, "cache_tokens_details")
        answered = _modalities(reported, "candidates_tokens_details", "response_tokens_details")
        changes = {
            "input_audio_tokens": min(sent.get("AUDIO", 0), usage.input_tokens - usage.cache_creation_tokens),
            "cache_read_audio_tokens": min(cached.get("AUDIO", 0), usage.cache_read_tokens, sent.get("AUDIO", 0)),
            "output_audio_tokens": min(answered.get("AUDIO", 0), usage.output_tokens),
            "output_image_tokens": min(answered.get("IMAGE", 0), usage.output_tokens),
        }
        changes = {name: count for name, count in changes.items() if count}
        return Reading(replace(usage, **changes) if changes else usage, is_certain)

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return the service tier; where the answer names none, what a header requests of Vertex AI."""
        headers = exchange.requested("additional_headers")
        if service_tier is None and isinstance(headers, Mapping):
            tiers = (value for name, value in headers.items() if str(name).lower() == _TIER_HEADER)
            service_tier = next((tier for tier in tiers if isinstance(tier, str)), None)
        return super().price_context(exchange, service_tier)

    def price_models(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the model's names; Vertex AI's OpenAI-compatible endpoint puts the publisher before them."""
        models = super().price_models(exchange)
        if "/" not in models[0]:
            return models
        return (*models, *(model.removeprefix(_PUBLISHER) for model in models))

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with what LangChain loses of Gemini's.

        ============  =====================================================================================
        image output  number and size of the images, by the documented tokens of an image
        audio output  all output of a speech model but its thoughts and images
        audio input   the playing time; text where it cannot be read; never covers the whole bill
        searches      each unique query from Gemini 3 on, before that each prompt that searched
        Maps          as searches, where the answer rests on a place
        own data      each prompt that Vertex AI Search grounded; Gemini's own file search is free
        ============  =====================================================================================
        """
        changes: dict[str, Any] = {}
        whole_bill = True
        if sizes := _image_sizes(answers):
            tokens = _tokens_of_sizes(sizes, model)
            room = max(0, usage.output_tokens - usage.reasoning_tokens - usage.output_audio_tokens)
            whole_bill = tokens <= room
            changes["images"], changes["image_sizes"] = len(sizes), tuple(sizes)
            changes["output_image_tokens"] = min(tokens, room)
            if usage.output_image_tokens:
                # Gemini's own count.
                del changes["output_image_tokens"]
                whole_bill = True
        if "-tts" in model and not usage.output_audio_tokens:
            silent = usage.reasoning_tokens + changes.get("output_image_tokens", 0)
            changes["output_audio_tokens"] = usage.output_tokens - silent
        if (
            prompt
            and not usage.input_audio_tokens
            and (audio := [block for block in blocks_of(prompt) if _has_audio(block)])
        ):
            whole_bill = False
            changes |= self._audio_input(usage, audio)
        grounding = [metadata for message in answers if (metadata := _grounding(message))]
        if grounding:
            changes |= _grounding_fees(grounding, model)
            if "vertex_ai_search" in _offered(params) and any(_has_retrieved(each) for each in grounding):
                changes["file_searches"] = 1
        return (replace(usage, **changes) if changes else usage), whole_bill

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether a search was one of Web Grounding for Enterprise: its fee is not that of Google Search."""
        if _ENTERPRISE not in _offered(exchange.params):
            return False
        return any(_grounding(message) for message in exchange.answer.messages)

    def image_tokens(self, block: Mapping[str, Any], *, model: str, params: Mapping[str, Any]) -> int:
        """Return the tokens of an image: by resolution from Gemini 3 on, by tiles before.

        The image's own ``media_resolution`` wins over the request's.
        """
        generation = _generation(model)
        if generation is None:
            return super().image_tokens(block, model=model, params=params)
        if generation >= 3:
            resolution = block.get("media_resolution") or params.get("media_resolution")
            name = str(getattr(resolution, "name", resolution)).upper().rpartition("RESOLUTION_")[2]
            return _RESOLUTION_TOKENS.get(name, _RESOLUTION_TOKENS["HIGH"])
        width, height = pixels_of(block)
        if max(width, height) <= 384:
            return _TILE_TOKENS
        return _TILE_TOKENS * math.ceil(width / 768) * math.ceil(height / 768)

    def output_image_tokens(self, answers: Sequence[BaseMessage], model: str) -> int:
        """Return the output tokens of the images in answers, by their number and size."""
        return _tokens_of_sizes(_image_sizes(answers), model)

    def _tool_prompt_tokens(self, usage: TokenUsage, exchange: Exchange) -> int | None:
        """Return what Google's own tools read, which the counts hold as output; None where it may be thoughts.

        ChatVertexAI and langchain-google-genai 3 leave ``toolUsePromptTokenCount`` out: only the total holds it.
        """
        answer = exchange.answer
        rest = usage.output_tokens - (count_of(answer.raw_usage.get("output_tokens")) or 0)
        if answer.is_consistent or rest <= 0:
            return 0
        offers_own_tools = any(_is_own_tool(tool) for tool in as_list(exchange.params.get("tools")))
        answered = count_of(answer.reported.get("candidates_token_count"))
        thoughts = count_of(answer.reported.get("thoughts_token_count"))
        if answered is not None and thoughts is not None and (thoughts or offers_own_tools):
            return max(0, usage.output_tokens - answered - thoughts)
        if usage.reasoning_tokens and self.provider == "google_genai":
            # langchain-google-genai counts the thoughts as output. Without a tool that reads, the chunks of a stream
            # contradict each other.
            return rest if offers_own_tools else None
        if usage.reasoning_tokens:
            return max(0, rest - usage.reasoning_tokens)  # ChatVertexAI counts them beside it
        return None if offers_own_tools else 0

    def _audio_input(self, usage: TokenUsage, blocks: Sequence[Mapping[str, Any]]) -> dict[str, int]:
        seconds = sum(audio_seconds(block_bytes(block) or b"") or 0 for block in blocks)
        room = usage.input_tokens - usage.cache_creation_tokens
        tokens = min(round(seconds * self.audio_tokens_per_second), room)
        # How many tokens are cached and audio at once is reported nowhere. At least this many must be.
        return {
            "input_audio_tokens": tokens,
            "cache_read_audio_tokens": max(0, usage.cache_read_tokens + tokens - room),
        }


def _modalities(reported: Mapping[str, Any], *keys: str) -> dict[str, int]:
    counts: dict[str, int] = {}
    for key in keys:
        for detail in as_list(reported.get(key)):
            modality, count = as_mapping(detail).get("modality"), count_of(as_mapping(detail).get("token_count"))
            if isinstance(modality, str) and count:
                counts[modality] = counts.get(modality, 0) + count
    return counts


def _is_own_tool(tool: object) -> bool:
    """Return whether a tool of the request is one of Google's; a function of the application's has no other key."""
    if not isinstance(tool, Mapping):
        return True  # Vertex AI's own type, which LangChain makes for tools other than functions only
    kinds = {key for key, value in tool.items() if value is not None}
    return not kinds & {"function", "name", "function_declarations"} or bool(kinds & _OWN_TOOLS)


def _generation(model: str) -> int | None:
    match = _GENERATION.match(model)
    return int(match[1]) if match else None


def _image_sizes(answers: Sequence[BaseMessage]) -> list[str]:
    images = (block for block in blocks_of(answers) if block.get("type") in ("image", "image_url"))
    return [image_class(image_pixels(image)) for image in images]


def _tokens_of_sizes(sizes: Sequence[str], model: str) -> int:
    rows = (tokens for prefix, tokens in _OUTPUT_IMAGE_TOKENS.items() if model.startswith(prefix))
    tokens = next(rows, _OUTPUT_IMAGE_TOKENS["gemini-3"])
    return sum(tokens[size] for size in sizes)


def _has_audio(block: Mapping[str, Any]) -> bool:
    return block.get("type") in _AUDIO_TYPES or str(block.get("mime_type", "")).startswith(("audio/", "video/"))


def _offered(params: Mapping[str, Any]) -> set[str]:
    """Return the names of Google's own tools in the request, and of the sources that its retrieval reads."""
    tools = as_list(params.get("tools"))
    mappings = [as_mapping(tool) for tool in tools]
    mappings += [as_mapping(mapping.get("retrieval")) for mapping in mappings]
    names = {key for mapping in mappings for key, value in mapping.items() if value is not None}
    # Vertex AI's own type shows its fields as text.
    return names.union(*(_FIELD_OF_TEXT.findall(str(tool)) for tool in tools if not isinstance(tool, Mapping)))


def _has_retrieved(grounding: Mapping[str, Any]) -> bool:
    return any(as_mapping(chunk).get("retrieved_context") for chunk in as_list(grounding.get("grounding_chunks")))


def _grounding(message: BaseMessage) -> Mapping[str, Any]:
    metadata = as_mapping(getattr(message, "response_metadata", None))
    return as_mapping(metadata.get("grounding_metadata"))


def _grounding_fees(grounding: Sequence[Mapping[str, Any]], model: str) -> dict[str, int]:
    fees = {"web_searches": _billed(_texts(grounding, "web_search_queries", "image_search_queries"), model)}
    if any(as_mapping(chunk).get("maps") for chunk in _items(grounding, "grounding_chunks")):
        fees["maps_groundings"] = max(1, _billed(_texts(grounding, "retrieval_queries"), model))
    return fees


def _billed(queries: set[str], model: str) -> int:
    generation = _generation(model)
    by_prompt = generation is not None and generation < 3
    return min(1, len(queries)) if by_prompt else len(queries)


def _texts(grounding: Sequence[Mapping[str, Any]], *keys: str) -> set[str]:
    return {text for key in keys for text in _items(grounding, key) if isinstance(text, str) and text}


def _items(grounding: Sequence[Mapping[str, Any]], key: str) -> Iterator[Any]:
    for metadata in grounding:
        yield from as_list(metadata.get(key))
