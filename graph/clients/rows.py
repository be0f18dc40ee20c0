"""Types to parse the rows of JSON answers into dataclasses, with pydantic.

Open data is irregular: a text may be missing, a number or the word ``null``. Unknown texts become ``""`` and unknown
numbers ``None``. Only a different structure is an error.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, ValidationError

__all__ = ["CONFIG", "Day", "Text", "Won", "contains_either", "first_error"]

CONFIG = ConfigDict(coerce_numbers_to_str=True, allow_inf_nan=False)


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if not isinstance(value, str):
        return value
    text = value.strip()
    return "" if text.lower() in {"null", "-"} else text


def _won(value: Any) -> Any:
    """Parse ``"8,000"`` and ``"8000원"``. Anything that is no amount, for example ``"별도문의"``, is unknown."""
    if value is None or isinstance(value, str):
        amount = re.fullmatch(r"\s*([0-9]{1,3}(?:,[0-9]{3})+|[0-9]{1,12})(?:\.0+)?\s*원?\s*", value or "")
        return int(amount[1].replace(",", "")) if amount else None
    return value


def _day(value: Any) -> Any:
    """Parse ``"2025-06-30"`` and ``"20250630"``. Anything else is unknown."""
    for form in ("%Y-%m-%d", "%Y%m%d"):
        try:
            return datetime.strptime(str(value).strip(), form).date()  # noqa: DTZ007 # a date without a time
        except ValueError:
            continue
    return None


Text = Annotated[str, BeforeValidator(_text)]
Won = Annotated[int | None, BeforeValidator(_won)]
Day = Annotated[date | None, BeforeValidator(_day)]


def first_error(error: ValidationError) -> str:
    """Return a short description of the first error."""
    detail = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in detail["loc"]) or "the top"
    return f"{detail['msg']} at {where}, not {repr(detail['input'])[:80]}"


def contains_either(one: str, other: str) -> bool:
    """Return whether one of two names contains the other, ignoring spaces and brackets.

    A blank name is contained in every name.
    """
    one, other = (re.sub(r"[\W_]+", "", name).casefold() for name in (one, other))
    return one in other or other in one
