"""OpenAI's own books: the costs API (JSON and CSV) and the usage API of completions.

Source: https://platform.openai.com/docs/api-reference/usage, read 2026-11-30.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any
from zoneinfo import ZoneInfo

from eco2_callbacks.finance.reconcile.books import Book, local_day
from eco2_callbacks.finance.reconcile.files import Export

__all__ = ["read_openai"]

_PAGE = {"object", "data", "has_more", "next_page"}
_BUCKET = {"object", "start_time", "end_time", "start_time_iso", "end_time_iso", "results", "result"}
_COST = {
    *("object", "amount", "line_item", "project_id", "project_name", "organization_id", "organization_name"),
    *("api_key_id", "quantity"),
}
_USAGE = {
    *("object", "input_tokens", "output_tokens", "input_cached_tokens", "input_cache_write_tokens", "model", "batch"),
    *("input_uncached_tokens", "input_audio_tokens", "output_audio_tokens", "input_text_tokens", "output_text_tokens"),
    *("input_image_tokens", "output_image_tokens", "input_cached_text_tokens", "input_cached_audio_tokens"),
    *("input_cached_image_tokens", "num_model_requests", "project_id", "user_id", "api_key_id", "service_tier"),
}
_COLUMNS = {
    *("start_time", "end_time", "start_time_iso", "end_time_iso", "amount_value", "amount_currency", "line_item"),
    *("project_id", "project_name", "organization_id", "organization_name", "api_key_id", "quantity"),
}
# What a line item names before its comma, where that is no model.
_TOOLS = ("web search", "file search", "code interpreter")
_CALLS = ("", " tool calls", " tool call", " calls", " sessions", " preview", " preview tool calls")
_FEES = ("web search", "file search", "code interpreter", "image models", "assistants api", "evals", "containers")


def read_openai(export: Export, zone: ZoneInfo) -> Book:
    """Return OpenAI's book; dollars from the costs API, tokens and calls from the usage API.

    Raises:
        ConfigError: If a column is unknown or missing, a value is none, or the currency is not USD.
    """
    book = Book("openai", providers=("openai", "openai-codex"), is_bill=True)
    if export.is_csv:
        for row in export.rows(_COLUMNS, {"start_time", "amount_value", "amount_currency"}):
            _add_cost(export, book, zone, row["start_time"], row["amount_value"], row["amount_currency"], row)
        return book
    for bucket in _buckets(export):
        for result in bucket.get("results", bucket.get("result")) or ():
            kind = str(result.get("object", ""))
            if kind.startswith("organization.costs"):
                export.check(result, _COST, {"amount"})
                amount = result["amount"] or {}
                export.check(amount, {"value", "currency"}, {"value", "currency"})
                _add_cost(export, book, zone, bucket["start_time"], amount["value"], amount["currency"], result)
            elif kind == "organization.usage.completions.result":
                export.check(result, _USAGE, {"input_tokens", "output_tokens"})
                day = local_day(export.moment(bucket["start_time"], "start_time"), zone)
                book.at(day, result.get("model") or "").add(
                    calls=export.count(result.get("num_model_requests") or 0, "num_model_requests"),
                    input_tokens=export.count(result["input_tokens"], "input_tokens"),
                    output_tokens=export.count(result["output_tokens"], "output_tokens"),
                )
            else:
                raise export.error(
                    f"a result's object is {kind!r}, wanted organization.costs.result or usage.completions"
                )
    return book


def _buckets(export: Export) -> Iterator[Mapping[str, Any]]:
    pages = export.documents()
    export.check_last_pages(pages, _kind)
    for page in pages:
        if not isinstance(page, dict):
            raise export.error(f"found {type(page).__name__}, wanted the pages of the costs or usage API")
        buckets = [page]
        if "data" in page:
            export.check(page, _PAGE)
            buckets = page["data"]
        for bucket in buckets:
            export.check(bucket, _BUCKET, {"start_time"})
            yield bucket


def _kind(page: Mapping[str, Any]) -> str:
    """Return what a page holds; ``""`` where it is empty."""
    results = (each for bucket in page.get("data") or () for each in bucket.get("results", bucket.get("result")) or ())
    return next((str(each.get("object", "")) for each in results), "")


def _add_cost(
    export: Export, book: Book, zone: ZoneInfo, start: Any, value: Any, currency: Any, about: Mapping[str, Any]
) -> None:
    if str(currency).upper() != "USD":
        raise export.error(f"the currency is {currency!r}, wanted USD")
    day = local_day(export.moment(start, "start_time"), zone)
    book.at(day, _model(about.get("line_item"))).add(usd=export.decimal(value, "amount"))


def _model(line_item: object) -> str:
    """Return the model of a line item such as ``gpt-5.2-2025-12-11, cached input``; ``""`` without one."""
    text = str(line_item or "").strip()
    name = text.partition(",")[0].strip()
    for tool, suffix in itertools.product(_TOOLS, _CALLS):
        if name.lower() == f"{tool}{suffix}":
            return f"({tool})"
    return f"({name.lower()})" if name.lower().startswith(_FEES) else name
