"""How the rows of JSON answers become dataclasses: pydantic reads them, by the name each field has on the wire.

Open data is uneven: a text may be missing, a number or the word ``null``. Such a text is read as ``""``, such a
number as ``None``; only what has another structure is an error.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError

__all__ = ["CONFIG", "Day", "Text", "Won", "alike", "first"]

CONFIG = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False)


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return "" if text.lower() in {"null", "-"} else text


def _won(value: Any) -> Any:
    """Read ``"8,000"`` and ``"8000원"``; what is no amount, as ``"별도문의"``, is unknown."""
    if value is None or isinstance(value, str):
        amount = re.fullmatch(r"\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.0+)?\s*원?\s*", value or "")
        return int(amount[1].replace(",", "")) if amount else None
    return value


def _day(value: Any) -> Any:
    """Read ``"2025-06-30"`` and ``"20250630"``; anything else is unknown."""
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(str(value).strip(), form).date()  # noqa: DTZ007 # a day in Korea, no instant
        except ValueError:
            continue
    return None


Text = Annotated[str, BeforeValidator(_text)]
Won = Annotated[int | None, BeforeValidator(_won)]
Day = Annotated[date | None, BeforeValidator(_day)]


def first(error: ValidationError) -> str:
    """Return the first thing that is wrong with an answer, in a few words."""
    detail = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "the top"
    return f"{detail['msg']} at {where}, not {repr(detail['input'])[:80]}"


def alike(one: str, other: str) -> bool:
    """Say whether one of two names lies within the other, spaces and brackets aside; a blank one lies in any."""
    one, other = (re.sub(r"[\W_]+", "", name).casefold() for name in (one, other))
    return one in other or other in one
