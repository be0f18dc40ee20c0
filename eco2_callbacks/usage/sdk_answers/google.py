"""Reads answers of the google-genai SDK: whole ones, and the chunks of a streamed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_list, as_mapping, as_text
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.sdk_answers.fields import plain, snake_case
from eco2_callbacks.usage.sdk_answers.results import counts, new_chunk, new_message, new_result, tool_call

__all__ = ["GeminiStream", "read_gemini"]

# Vertex AI names the tier as the kind of traffic.
_TRAFFIC_TIERS = {
    "ON_DEMAND_FLEX": "flex",
    "ON_DEMAND_PRIORITY": "priority",
    "PROVISIONED_THROUGHPUT": "provisioned_throughput",
}
_GROUNDING_LISTS = ("web_search_queries", "image_search_queries", "retrieval_queries", "grounding_chunks")


def read_gemini(answer: object) -> LLMResult:
    """Read an answer of ``generate_content``, or of another method with a ``usage_metadata``."""
    stream = GeminiStream()
    stream.add(answer)
    return stream.result()


class GeminiStream:
    """A streamed answer. Usages repeat the counts so far, in most streams: the largest count of each kind holds."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: list[dict[str, Any]] = []
        self._calls: list[dict[str, Any]] = []
        self._grounding: dict[str, list[Any]] = {}
        self.is_complete = False

    def add(self, chunk: object) -> ChatGenerationChunk:
        """Add a chunk, and return it as LangChain would."""
        answer = as_mapping(snake_case(plain(chunk)))
        for name in ("model_version", "response_id"):
            if text := as_text(answer.get(name)):
                self._fields[name] = text
        headers = as_mapping(as_mapping(answer.get("sdk_http_response")).get("headers"))
        if tier := as_text(headers.get("x-gemini-service-tier")):
            self._fields["service_tier"] = tier
        usage = as_mapping(answer.get("usage_metadata"))
        tier = as_text(usage.get("service_tier")).lower()
        if tier := tier or _TRAFFIC_TIERS.get(as_text(usage.get("traffic_type")), ""):
            self._fields.setdefault("service_tier", tier)
        for key, value in usage.items():
            known = count_of(self._usage.get(key))
            self._usage[key] = max(known, value) if known is not None and count_of(value) is not None else value
        text, calls = "", list[dict[str, Any]]()
        for candidate in as_list(answer.get("candidates")):
            if not isinstance(candidate, dict):
                continue
            self.is_complete = self.is_complete or bool(candidate.get("finish_reason"))
            for part in as_list(as_mapping(candidate.get("content")).get("parts")):
                text += self._add_part(as_mapping(part), calls)
            grounding = as_mapping(candidate.get("grounding_metadata"))
            for name in _GROUNDING_LISTS:
                if found := as_list(grounding.get(name)):
                    self._grounding.setdefault(name, []).extend(found)
        self._calls += calls
        name = "".join(call["name"] for call in calls)
        return new_chunk(text, tool_name=name, usage=_usage(usage))

    def result(self) -> LLMResult:
        """Return the answer so far."""
        message = new_message(
            self._blocks,
            counted=_usage(self._usage),
            tool_calls=self._calls,
            model_name=self._fields.get("model_version"),
            id=self._fields.get("response_id"),
            service_tier=self._fields.get("service_tier"),
            usage_metadata=self._usage or None,
            grounding_metadata=self._grounding or None,
        )
        return new_result([message])

    def _add_part(self, part: Mapping[str, Any], calls: list[dict[str, Any]]) -> str:
        text = as_text(part.get("text"))
        if text:
            self._blocks.append({"type": "thinking" if part.get("thought") is True else "text", "text": text})
        if call := as_mapping(part.get("function_call")):
            calls.append(tool_call(as_text(call.get("name")), call.get("args")))
        media = as_mapping(part.get("inline_data"))
        if media and part.get("thought") is not True:
            kind = as_text(media.get("mime_type"))
            data = media.get("data")
            # The SDK's JSON holds URL-safe base64.
            data = data.replace("-", "+").replace("_", "/") if isinstance(data, str) else data
            self._blocks.append({"type": kind.partition("/")[0] or "file", "mime_type": kind, "data": data})
        return text


def _usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Gemini's usage in LangChain's names: input holds what its tools read, output the thoughts."""
    if count_of(usage.get("prompt_token_count")) is None and count_of(usage.get("total_token_count")) is None:
        return None

    def count(name: str) -> int:
        return count_of(usage.get(name)) or 0

    return counts(
        input_tokens=count("prompt_token_count") + count("tool_use_prompt_token_count"),
        output_tokens=count("candidates_token_count") + count("response_token_count") + count("thoughts_token_count"),
        total_tokens=usage.get("total_token_count"),
        input_token_details={"cache_read": count("cached_content_token_count")},
        output_token_details={"reasoning": count("thoughts_token_count")},
    )
