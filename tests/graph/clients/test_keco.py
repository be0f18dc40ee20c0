"""KECO: collection points."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from graph.clients import CollectionPoint, Keco
from tests.support.service_standins import PORTAL_KEY, Services


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def keco(services: Services) -> Keco:
    return Keco(key=PORTAL_KEY, url=services.url, timeout_seconds=60)


async def test_points_are_found_by_kind_and_region(services: Services, keco: Keco) -> None:
    """The request contains the given filters only."""
    points = await keco.collection_points(kind="폐휴대폰", region="서울특별시 강남구")

    assert points == (
        CollectionPoint(
            name="삼성스토어 강남본점",
            kind="폐휴대폰",
            method="방문배출",
            region="서울특별시 강남구",
            address="서울특별시 강남구 테헤란로 114",
            phone="1588-3366",
            cost="무료",
        ),
    )
    params = {name: value for name, value in services.requests[0].params.items() if name != "serviceKey"}
    assert params == {
        "returnType": "json",
        "numOfRows": "10",
        "pageNo": "1",
        "kndNm": "폐휴대폰",
        "rgnNm": "서울특별시 강남구",
    }


async def test_missing_values_are_unknown(keco: Keco) -> None:
    """A phone number of null becomes an empty text."""
    (point,) = await keco.collection_points(kind="폐자동차")

    assert (point.name, point.phone, point.cost) == ("한국자원 리사이클센터", "", "")


async def test_no_point_is_an_empty_result(keco: Keco) -> None:
    """No match is no error."""
    assert await keco.collection_points(address="없는길") == ()


ROW = {"conmNm": "주민센터"}


@pytest.mark.parametrize(
    ("items", "names"),
    [
        ([ROW, ROW], ["주민센터", "주민센터"]),
        ({"item": [ROW]}, ["주민센터"]),
        ({"item": ROW}, ["주민센터"]),
        ([{"item": ROW}], ["주민센터"]),
        ("", []),
        (None, []),
        ([], []),
    ],
    ids=["list", "item_list", "single_item", "list_of_items", "blank", "null", "empty"],
)
@pytest.mark.parametrize("wrapped", [True, False], ids=["response", "bare"])
async def test_every_form_of_rows_is_parsed(
    services: Services, keco: Keco, items: Any, names: list[str], wrapped: bool
) -> None:
    """The client parses every form in which the portal's services return rows."""
    envelope = {"header": {"resultCode": "00"}, "body": {"items": items}}
    services.set_answer("keco", json.dumps({"response": envelope} if wrapped else envelope).encode())

    assert [point.name for point in await keco.collection_points()] == names
