"""Prices of recyclables: month, region and won per kilogram."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from graph.clients import Price, RecyclablePrices
from graph.clients.kma import KST
from graph.clients.recyclable_price import latest_published_month
from tests.support.service_standins import PORTAL_KEY, Services


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def prices(services: Services) -> RecyclablePrices:
    return RecyclablePrices(
        key=PORTAL_KEY, url=services.url, timeout_seconds=60, now=lambda: datetime(2026, 11, 21, tzinfo=KST)
    )


async def test_the_latest_price_of_an_item(services: Services, prices: RecyclablePrices) -> None:
    """The price is an exact Decimal with its month and region."""
    assert await prices.prices("압축 PET") == (
        Price(item="압축 (PET)", region="전국", month=date(2026, 11, 1), price_won_per_kg=Decimal(423)),
    )
    params = {name: value for name, value in services.requests[0].params.items() if name != "serviceKey"}
    assert params == {
        "returnType": "JSON",
        "numOfRows": "100",
        "pageNo": "1",
        "exmnYmd": "202611",
        "stdgNm": "전국",
    }


async def test_all_prices_of_a_month_and_region(prices: RecyclablePrices) -> None:
    """An item without a price is left out. Thousands separators are parsed."""
    found = await prices.prices(region="수도권", month=date(2026, 3, 31))

    assert {price.item: price.price_won_per_kg for price in found} == {
        "신문지": Decimal("120.5"),
        "골판지": Decimal("81.5"),
        "압축 (PET)": Decimal(423),
        "알루미늄캔": Decimal("1568.0"),
    }
    assert {(price.month, price.region) for price in found} == {(date(2026, 3, 1), "수도권")}


async def test_a_late_month_falls_back_to_the_one_before(services: Services) -> None:
    """If the latest month has no prices, the client requests the month before, and then returns no prices."""
    prices = RecyclablePrices(
        key=PORTAL_KEY, url=services.url, timeout_seconds=60, now=lambda: datetime(2023, 1, 20, tzinfo=KST)
    )
    assert (await prices.prices("신문지"))[0].month == date(2023, 1, 1)

    prices = RecyclablePrices(
        key=PORTAL_KEY, url=services.url, timeout_seconds=60, now=lambda: datetime(2022, 12, 20, tzinfo=KST)
    )
    assert await prices.prices("신문지") == ()
    assert [request.params["exmnYmd"] for request in services.requests] == ["202301", "202212", "202211"]


@pytest.mark.parametrize(
    ("now", "month"),
    [
        (datetime(2026, 11, 14, 23, 59, tzinfo=KST), date(2026, 10, 1)),
        (datetime(2026, 11, 15, tzinfo=KST), date(2026, 11, 1)),
        (datetime(2026, 1, 1, tzinfo=KST), date(2025, 12, 1)),
        (datetime(2026, 11, 14, 15, tzinfo=UTC), date(2026, 11, 1)),
    ],
    ids=["before", "from", "new_year", "korean_day"],
)
def test_a_month_is_published_on_its_15th(now: datetime, month: date) -> None:
    """Before the 15th, Korean time, the latest published month is the previous one."""
    assert latest_published_month(now) == month
