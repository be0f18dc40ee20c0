"""Computes the bills of a cassette's answers from the providers' usage objects and published prices."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from eco2_callbacks import LLMCall

__all__ = ["Bill", "bill_of_call", "bills_of_cassette"]

_MTOK = Decimal(1_000_000)
# USD per million tokens (input, cached input, output), November 2026:
# https://platform.openai.com/docs/pricing and https://ai.google.dev/gemini-api/docs/pricing
_RATES = {
    "gpt-5.2-2025-12-11": (Decimal("1.75"), Decimal("0.175"), Decimal(14)),
    "gemini-3-flash-preview": (Decimal("0.50"), Decimal("0.05"), Decimal(3)),
    "gemini-3-pro-image-preview": (Decimal(2), Decimal("0.20"), Decimal(12)),
}
_IMAGE_RATE = Decimal(120)
_SEARCH = {"openai": Decimal("0.010"), "google": Decimal("0.014")}


@dataclass(frozen=True)
class Bill:
    """The usage and the cost of one answer."""

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    image_tokens: int
    searches: int
    usd: Decimal


def bill_of_call(call: LLMCall) -> Bill:
    """Return the bill that a record reports."""
    usage, cost = call.usage, call.cost
    assert usage is not None
    assert cost is not None
    assert call.unpriced_reason is None
    return Bill(
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.output_image_tokens,
        usage.web_searches,
        cost.total_usd,
    )


def bills_of_cassette(path: Path) -> Iterator[Bill]:
    """Yield the bill of each answer of a provider in a cassette."""
    for interaction in yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]:
        if not any(host in interaction["request"]["uri"] for host in ("api.openai.com", "googleapis.com")):
            continue  # a service, which is free
        body = interaction["response"]["body"]["string"]
        if "googleapis" in interaction["request"]["uri"]:
            yield _google(_last_event(body))
        elif interaction["request"]["uri"].endswith("/responses"):
            event = _last_event(body)
            yield _responses(event.get("response", event))
        else:
            yield _chat(_last_event(body))


def _last_event(body: str) -> Any:
    if not body.startswith(("data:", "event:")):
        return json.loads(body)
    events = [line for line in body.splitlines() if line.startswith("data:") and line != "data: [DONE]"]
    return json.loads(events[-1].removeprefix("data:"))


def _chat(body: Mapping[str, Any]) -> Bill:
    usage = body["usage"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
    return _bill("openai", body["model"], usage["prompt_tokens"], cached, usage["completion_tokens"], reasoning)


def _responses(body: Mapping[str, Any]) -> Bill:
    usage = body["usage"]
    cached = usage["input_tokens_details"]["cached_tokens"]
    reasoning = usage["output_tokens_details"]["reasoning_tokens"]
    searches = sum(item["type"] == "web_search_call" for item in body["output"])
    output = usage["output_tokens"]
    return _bill("openai", body["model"], usage["input_tokens"], cached, output, reasoning, searches=searches)


def _google(body: Mapping[str, Any]) -> Bill:
    usage = body["usageMetadata"]
    thoughts = usage.get("thoughtsTokenCount", 0)
    details = usage.get("candidatesTokensDetails", [])
    images = sum(detail["tokenCount"] for detail in details if detail["modality"] == "IMAGE")
    (candidate,) = body["candidates"]
    queries = candidate.get("groundingMetadata", {}).get("webSearchQueries", [])
    return _bill(
        "google",
        body["modelVersion"],
        usage["promptTokenCount"] + usage.get("toolUsePromptTokenCount", 0),
        usage.get("cachedContentTokenCount", 0),
        usage["candidatesTokenCount"] + thoughts,
        thoughts,
        images=images,
        searches=len({*queries} - {""}),
    )


def _bill(
    provider: str,
    model: str,
    input_tokens: int,
    cached: int,
    output: int,
    reasoning: int,
    *,
    images: int = 0,
    searches: int = 0,
) -> Bill:
    input_rate, cached_rate, output_rate = _RATES[model]
    tokens = (input_tokens - cached) * input_rate + cached * cached_rate
    tokens += (output - images) * output_rate + images * _IMAGE_RATE
    usd = tokens / _MTOK + searches * _SEARCH[provider]
    return Bill(input_tokens, cached, output, reasoning, images, searches, usd)
