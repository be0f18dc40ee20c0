"""Client for KECO's monthly survey of recyclable prices, by region, in won per kilogram with VAT.

Documentation: https://www.data.go.kr/data/15156640/openapi.do (재활용가능자원 가격조사, B552584/reutilMrktPrcExmn)
Not tested against the real service, for lack of a key. Parameters and fields are those that public programs use.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter

from graph.clients.kma import KST
from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Text, contains_either

__all__ = ["Price", "RecyclablePrices", "latest_published_month"]

_MAX_PRICES = 100  # the service's limit; there are about 26 items
_PUBLISHED_ON_DAY = 15  # surveyed on the 10th, published a few days later


def _won(value: Any) -> Any:
    """Parse ``"1,568"``. Anything that is no price, for example ``"-"``, is unknown."""
    text = str(value).replace(",", "").strip()
    return text if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None


def _month(value: Any) -> Any:
    """Parse 202610, 20261010 and 2026-10 as the first of October."""
    digits = re.sub(r"[^0-9]", "", str(value))[:6]
    try:
        return date(int(digits[:4]), int(digits[4:]), 1)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Price:
    """The price of one kind of recyclable in one month. ``month`` is the month's first day."""

    item: Annotated[Text, Field(validation_alias="itemNm")] = ""
    region: Annotated[Text, Field(validation_alias="stdgNm")] = ""
    month: Annotated[date | None, BeforeValidator(_month), Field(validation_alias="exmnYmd")] = None
    price_won_per_kg: Annotated[Decimal | None, BeforeValidator(_won), Field(validation_alias="mrktPrc")] = None

    __pydantic_config__ = CONFIG


_PRICES = TypeAdapter(tuple[Price, ...])


class RecyclablePrices(PublicData):
    """Client for the prices of recyclables. It works in any event loop and needs no closing.

    ``from_env()`` reads ``RECYCLABLE_PRICE_SERVICE_KEY``, ``ECO2_RECYCLABLE_PRICE_URL`` and
    ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "Recyclable prices"
    KEY_SETTING = "RECYCLABLE_PRICE_SERVICE_KEY"
    WHAT = "a key for data.go.kr/data/15156640/openapi.do"
    URL_SETTING = "ECO2_RECYCLABLE_PRICE_URL"

    async def prices(self, item: str = "", *, region: str = "전국", month: date | None = None) -> tuple[Price, ...]:
        """Return the prices of recyclables.

        Args:
            item: For example ``압축 PET``. It matches if one name contains the other; ``""`` matches all.
            region: 전국, 수도권, 강원, 충북, 충남, 전북, 전남, 경북 or 경남.
            month: Any day of the month. ``None`` is the latest published month. If that month is late, a second request
                reads the month before.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        if month is not None:
            return await self._prices_of_month(month, region, item)
        latest = latest_published_month(self._now())
        return await self._prices_of_month(latest, region, item) or await self._prices_of_month(
            latest - timedelta(days=1), region, item
        )

    async def _prices_of_month(self, month: date, region: str, item: str) -> tuple[Price, ...]:
        params: dict[str, str | int | float] = {
            "returnType": "JSON",
            "numOfRows": _MAX_PRICES,
            "pageNo": 1,
            "exmnYmd": f"{month.year:04}{month.month:02}",
            "stdgNm": region.strip() or "전국",
        }
        prices = await self._rows("/B552584/reutilMrktPrcExmn/getlist", params, _PRICES)
        return tuple(
            price
            for price in prices
            if price.item and price.price_won_per_kg is not None and contains_either(price.item, item)
        )


def latest_published_month(now: datetime) -> date:
    """Return the first day of the latest published month. A month is published on its 15th, in Korean time."""
    today = now.astimezone(KST).date()
    first = today.replace(day=1)
    return first if today.day >= _PUBLISHED_ON_DAY else (first - timedelta(days=1)).replace(day=1)
