"""Anthropic's own books: the usage report and the cost report of the Admin API.

Source: https://platform.claude.com/docs/en/api/admin/cost_report, read 2026-11-30. Amounts are in cents.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from eco2_callbacks.finance.reconcile.books import Book, local_day
from eco2_callbacks.finance.reconcile.files import Export

__all__ = ["read_anthropic"]

_PAGE = {"data", "has_more", "next_page"}
_BUCKET = {"starting_at", "ending_at", "results"}
_COST = {
    *("amount", "currency", "context_window", "cost_type", "description", "model", "service_tier", "token_type"),
    *("workspace_id", "inference_geo", "speed"),
}
_USAGE = {
    *("uncached_input_tokens", "cache_creation", "cache_read_input_tokens", "output_tokens", "server_tool_use"),
    *("model", "service_tier", "context_window", "api_key_id", "workspace_id", "inference_geo", "speed", "account_id"),
    *("service_account_id",),
}
_CENTS = Decimal("0.01")


def read_anthropic(export: Export, zone: ZoneInfo) -> Book:
    """Return Anthropic's book, of pages of one report or of both, one JSON a line.

    Raises:
        ConfigError: If a field is unknown or missing, a value is none, or the currency is not USD.
    """
    if export.is_csv:
        raise export.error("it is no JSON; export the usage report and the cost report of the Admin API")
    book = Book("anthropic", providers=("anthropic",), is_bill=True)
    pages = export.documents()
    export.check_last_pages(pages, _kind)
    for page in pages:
        if not isinstance(page, dict):
            raise export.error(f"found {type(page).__name__}, wanted the pages of the usage or cost report")
        export.check(page, _PAGE, {"data"})
        for bucket in page["data"]:
            export.check(bucket, _BUCKET, {"starting_at", "results"})
            day = local_day(export.moment(bucket["starting_at"], "starting_at"), zone)
            for result in bucket["results"]:
                if "amount" in result:
                    export.check(result, _COST, {"amount", "currency"})
                    if str(result["currency"]).upper() != "USD":
                        raise export.error(f"the currency is {result['currency']!r}, wanted USD")
                    model = result.get("model") or ""
                    if not model and result.get("cost_type") not in (None, "tokens"):
                        model = f"({str(result['cost_type']).replace('_', ' ')})"
                    book.at(day, model).add(usd=export.decimal(result["amount"], "amount") * _CENTS)
                    continue
                export.check(result, _USAGE, {"uncached_input_tokens", "output_tokens"})
                written = result.get("cache_creation") or {}
                export.check(written, {"ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens"})
                read = export.count(result["uncached_input_tokens"], "uncached_input_tokens") + export.count(
                    result.get("cache_read_input_tokens") or 0, "cache_read_input_tokens"
                )
                book.at(day, result.get("model") or "").add(
                    # As in the ledger: input tokens hold the cached ones too.
                    input_tokens=read + sum(export.count(count or 0, name) for name, count in written.items()),
                    output_tokens=export.count(result["output_tokens"], "output_tokens"),
                )
    return book


def _kind(page: Mapping[str, Any]) -> str:
    """Return what a page holds; ``""`` where it is empty."""
    results = (each for bucket in page.get("data") or () for each in bucket.get("results") or ())
    return next(("costs" if "amount" in each else "usage" for each in results), "")
