"""Google Cloud's billing export from BigQuery, as JSON lines or CSV.

Source: https://cloud.google.com/billing/docs/how-to/export-data-bigquery-tables/standard-usage, read 2026-11-30.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from eco2_callbacks.finance.reconcile.books import Book, local_day
from eco2_callbacks.finance.reconcile.files import Export
from eco2_callbacks.pricing import EXACT

__all__ = ["read_google"]

# Nested fields are written with a dot; a CSV may have an underscore in its place.
_KNOWN = {
    *("billing_account_id", "service", "service.id", "service.description", "sku", "sku.id", "sku.description"),
    *("usage_start_time", "usage_end_time", "project", "project.id", "project.number", "project.name"),
    *("project.labels", "project.ancestry_numbers", "project.ancestors", "labels", "system_labels", "tags"),
    *("location", "location.location", "location.country", "location.region", "location.zone", "export_time"),
    *("cost", "currency", "currency_conversion_rate", "usage", "usage.amount", "usage.unit", "credits"),
    *("usage.amount_in_pricing_units", "usage.pricing_unit", "invoice", "invoice.month", "invoice.publisher_type"),
    *("cost_type", "adjustment_info", "cost_at_list", "transaction_type", "seller_name", "subscription", "price"),
    *("resource", "resource.name", "resource.global_name", "cost_at_effective_price_default", "consumption_model"),
    *("cost_at_list_consumption_model", "adjustment_info.id", "adjustment_info.description", "adjustment_info.mode"),
    *("adjustment_info.type", "subscription.instance_id"),
}
_NEEDED = {"service.description", "sku.description", "usage_start_time", "cost", "currency"}
_MODEL = re.compile(
    r"\b(gemini|gemma|imagen|veo)[ -]?(\d+(?:\.\d+)?)[ -]?(flash[ -]lite|flash|pro|ultra|nano)?", re.IGNORECASE
)
# Claude on Vertex AI is on Google's bill too.
_PROVIDERS = (
    *("google", "google_genai", "google-genai", "gemini", "google_vertexai", "vertexai", "vertex_ai", "google-vertex"),
    *("anthropicvertex", "google_anthropic_vertex"),
)
_MAX_SHOWN = 20
_SERVICES = ("gemini api", "vertex ai", "generative language api", "cloud ai")


def read_google(export: Export, zone: ZoneInfo) -> Book:
    """Return Google's book of the models' services; other services are left out.

    Costs are net of credits, in dollars by the export's own conversion rate.

    Raises:
        ConfigError: If a column is unknown or missing, a value is none, a currency has no conversion rate, or no row is
            of a service with models.
    """
    book = Book("google", providers=_PROVIDERS, is_bill=True)
    others = set()
    for row in _rows(export):
        service = str(row["service.description"])
        if not service.lower().startswith(_SERVICES):
            others.add(service)
            continue
        sku = str(row["sku.description"])
        day = local_day(export.moment(row["usage_start_time"], "usage_start_time"), zone)
        cost = export.decimal(row["cost"], "cost") + _credits(export, row.get("credits"))
        if str(row["currency"]).upper() != "USD":
            rate = export.decimal(row.get("currency_conversion_rate"), "currency_conversion_rate")
            if rate <= 0:
                raise export.error(f"currency_conversion_rate is {rate}, wanted a number above 0")
            cost = EXACT.divide(cost, rate)
        entry = book.at(day, _model(sku))
        entry.add(usd=cost)
        if "token" in sku.lower() and (tokens := row.get("usage.amount")) not in (None, ""):
            count = int(export.decimal(tokens, "usage.amount"))
            if "output" in sku.lower():
                entry.add(output_tokens=count)
            else:
                entry.add(input_tokens=count)
    if others and not book.amounts:
        shown = ", ".join(repr(name) for name in sorted(others)[:_MAX_SHOWN])
        raise export.error(f"its services are {shown}, wanted one that begins with {', '.join(_SERVICES)}")
    return book


def _rows(export: Export) -> Iterator[Mapping[str, Any]]:
    if export.is_csv:
        flat = {name.replace(".", "_"): name for name in _KNOWN if "." in name}
        for row in export.rows(_KNOWN | set(flat), ()):
            named = {flat.get(key, key): value for key, value in row.items()}
            export.check(named, _KNOWN | set(named), _NEEDED)
            yield named
        return
    for document in export.documents():
        if not isinstance(document, dict):
            raise export.error(f"found {type(document).__name__}, wanted the rows of the billing export")
        export.check(document, _KNOWN)
        named = dict(document)
        for name in ("service", "sku", "usage"):
            for key, value in (document.get(name) or {}).items():
                named[f"{name}.{key}"] = value
        export.check(named, set(named), _NEEDED)
        yield named


def _credits(export: Export, credits_: Any) -> Decimal:
    if isinstance(credits_, str) and credits_.strip():
        # A CSV holds the list as JSON.
        try:
            credits_ = json.loads(credits_, parse_float=Decimal)
        except ValueError:
            raise export.error(f"credits is {credits_!r}, wanted a list of credits as JSON") from None
    if not credits_:
        return Decimal(0)
    if not isinstance(credits_, list) or not all(isinstance(each, dict) for each in credits_):
        raise export.error(f"credits is {credits_!r}, wanted a list of credits with their amount")
    return sum((export.decimal(each.get("amount"), "credits.amount") for each in credits_), Decimal(0))


def _model(sku: str) -> str:
    """Return the model in a SKU's description, such as ``gemini-2.5-flash-lite``; the SKU itself without one."""
    found = _MODEL.search(sku)
    if found is None:
        return f"({sku.lower()})"
    return "-".join(part.lower().replace(" ", "-") for part in found.groups() if part)
