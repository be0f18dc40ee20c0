"""Bulk-waste fees: district, item and amount."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import pytest

from graph.clients import BulkWaste, Fee, ServiceRefused
from tests.support.service_standins import PORTAL_KEY, Services


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def bulk_waste(services: Services) -> BulkWaste:
    return BulkWaste(key=PORTAL_KEY, url=services.url, timeout_seconds=60)


async def test_all_sizes_of_an_item_are_sorted_by_fee(bulk_waste: BulkWaste) -> None:
    """The fee is a whole number of won. The word null is an unknown size."""
    fees = await bulk_waste.fees("소파", district="강남구", province="서울")

    assert [(fee.item, fee.size, fee.fee_won) for fee in fees] == [
        ("소파(1인용)", "", 4000),
        ("소파", "5인용이상", 15000),
    ]
    assert fees[1] == Fee(
        province="서울특별시",
        district="강남구",
        item="소파",
        category="가구류",
        size="5인용이상",
        charge="유료",
        fee_won=15000,
        authority="",
        as_of=date(2025, 6, 30),
    )


@pytest.mark.parametrize(
    ("item", "won"), [("침대", 10000), ("냉장고 (양문형)", 0), ("수족관", None)], ids=["part", "more", "no_amount"]
)
async def test_an_item_is_found_by_a_part_of_its_name(bulk_waste: BulkWaste, item: str, won: int | None) -> None:
    """An item matches if one name contains the other. A fee that is no amount is unknown, not free."""
    (fee,) = await bulk_waste.fees(item, district="강남구")

    assert fee.fee_won == won


async def test_fees_of_other_districts_are_dropped(services: Services, bulk_waste: BulkWaste) -> None:
    """Several cities have a 중구. The client also drops rows of other districts from the answer."""
    assert [fee.fee_won for fee in await bulk_waste.fees("소파", district="중구", province="부산")] == [6000]
    assert services.requests[0].params["CTPV_NM"] == "부산광역시"

    row = b'{"ctpvNm": "x", "sggNm": "y", "larWasNm": "z", "fee": "1"}'
    services.set_answer("bulk_waste", b'{"response": {"header": {"resultCode": "00"}, "body": {"items": [%s]}}}' % row)
    assert await bulk_waste.fees("z", district="강남구") == ()


async def test_no_fee_is_an_empty_result(bulk_waste: BulkWaste) -> None:
    """An unknown district or item is no error."""
    assert await bulk_waste.fees("소파", district="없는구") == ()
    assert await bulk_waste.fees("우주선", district="강남구") == ()


async def test_a_missing_district_is_refused_without_a_request(services: Services, bulk_waste: BulkWaste) -> None:
    """Fees differ by district, so the client sends no request without one."""
    with pytest.raises(ServiceRefused, match="got no district, wanted one such as 강남구"):
        await bulk_waste.fees("소파", district=" ")

    assert services.requests == []
