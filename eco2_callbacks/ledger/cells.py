"""What stands in the ledger's cells: times, money, buckets and texts as every backend stores them."""

from __future__ import annotations

import hashlib
import math
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from eco2_callbacks.ledger.columns import MONEY_DIGITS
from eco2_callbacks.pricing import EXACT

__all__ = [
    "BUCKET_BASE",
    "FIRST_TIME",
    "LAST_TIME",
    "MAX_INTEGER",
    "ZERO_BUCKET",
    "bucket_of",
    "cleaned",
    "cleaned_all",
    "json_text",
    "microseconds",
    "picodollars",
    "rates_json",
    "series_id",
    "tags_json",
]

# A percentile is read from buckets whose bounds are 5 % apart, so it is right to 2.5 %.
BUCKET_BASE = 1.05
ZERO_BUCKET = -32768
MAX_INTEGER = 2**63 - 1
# Rows have times from the first to before the last one: a DateTime64(6) of ClickHouse begins with 1900, one of
# nanoseconds ends with 2261.
FIRST_TIME, LAST_TIME = datetime(1900, 1, 1, tzinfo=UTC), datetime(2262, 1, 1, tzinfo=UTC)
_LOG_BASE = math.log(BUCKET_BASE)
_MICROSECOND = timedelta(microseconds=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_CHARACTERS = 1000
# All but the end of a line: a terminal or a database can take them for something else. Spaces and joiners of any script
# tell names apart, and stay.
_CONTROLS = dict.fromkeys((*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0)))
# Combinations of labels, and price sheets, that are remembered.
_MAX_REMEMBERED = 20_000

_rates_texts: dict[int, tuple[object, str]] = {}
_series_ids: dict[tuple[Any, ...], int] = {}
_encode_json = msgspec.json.Encoder(decimal_format="string").encode


def microseconds(at: datetime) -> int:
    """Return a time as microseconds since 1970 UTC; a time without a zone is UTC."""
    return (at - _EPOCH if at.tzinfo is not None else at.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def picodollars(usd: Decimal) -> int:
    """Return dollars as a multiple of 1e-12, rounded half to even, whatever the application's Decimal context says.

    Raises:
        OverflowError: If they are more than 9.2 million, more than 64 bits hold.
    """
    if not usd:
        return 0
    found = int(usd.scaleb(MONEY_DIGITS, EXACT).to_integral_value(context=EXACT))
    if not -MAX_INTEGER <= found <= MAX_INTEGER:
        raise OverflowError(f"{usd} USD are more than a row holds")
    return found


def bucket_of(amount: float) -> int:
    """Return the bucket of a cost or a duration in the histograms, ``ZERO_BUCKET`` for 0."""
    return round(math.log(amount) / _LOG_BASE) if amount > 0 else ZERO_BUCKET


def cleaned(value: str | None) -> str | None:
    """Return a text that every backend can store: without control characters, and with ``?`` for half a character."""
    if value is None or (len(value) <= _MAX_CHARACTERS and value.isprintable()):
        return value
    return value[:_MAX_CHARACTERS].encode("utf-8", "replace").decode().translate(_CONTROLS)


def cleaned_all(texts: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return several texts as ``cleaned`` does; almost always one look at all of them is enough."""
    joined = "".join(filter(None, texts))
    if len(joined) <= _MAX_CHARACTERS and joined.isprintable():
        return texts
    return tuple(map(cleaned, texts))


def json_text(value: object) -> str:
    """Return a value as JSON; Decimals are texts."""
    return _encode_json(value).decode()


@lru_cache(maxsize=4096)
def _encode_tags(tags: tuple[str, ...]) -> str:
    return json_text(sorted({str(cleaned(tag)) for tag in tags}))


def tags_json(tags: tuple[str, ...]) -> str:
    """Return tags as a sorted JSON list."""
    return _encode_tags(tags) if tags else "[]"


def rates_json(rates: Any) -> str:
    """Return the rates as JSON; the price book gives the same object for the same prices."""
    known = _rates_texts.get(id(rates))
    if known is None or known[0] is not rates:
        if len(_rates_texts) >= _MAX_REMEMBERED:
            _rates_texts.clear()
        # The object is kept, so that its id stays its own.
        known = _rates_texts[id(rates)] = rates, json_text(rates)
    return known[1]


def series_id(labels: tuple[Any, ...]) -> int:
    """Return the id of a combination of labels, the same in every process."""
    series = _series_ids.get(labels)
    if series is None:
        if len(_series_ids) >= _MAX_REMEMBERED:
            _series_ids.clear()
        text = "\x1f".join(label or "" for label in labels)
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        # A signed 64-bit integer, as all backends have it.
        series = _series_ids[labels] = int.from_bytes(digest, signed=True)
    return series
