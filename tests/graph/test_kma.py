"""KMA: the grid, the base time, and how the forecast is read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.clients import kma_grid
from graph.clients.errors import ServiceAnswerError, ServiceRefused, ServiceUnavailable
from graph.clients.kma import KST, Hour, Kma, base
from tests.support.service_standins import PORTAL_KEY, Services

NOON = datetime(2026, 11, 21, 12, 34, tzinfo=KST)


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def kma(services: Services) -> Kma:
    return Kma(key=PORTAL_KEY, url=services.url, now=lambda: NOON)


@pytest.mark.parametrize(
    ("latitude", "longitude", "cell"),
    [
        (37.5665, 126.9780, (60, 127)),
        (35.1796, 129.0756, (98, 76)),
        # What the guide's sample program is shown with.
        (37.488201, 126.929810, (59, 125)),
        (33.4996, 126.5312, (53, 38)),
        (38.0, 126.0, (43, 136)),
    ],
    ids=["seoul", "busan", "guide", "jeju", "origin"],
)
def test_a_place_lies_in_its_documented_cell(latitude: float, longitude: float, cell: tuple[int, int]) -> None:
    """The projection gives the cells of the guide's table."""
    assert kma_grid.cell(latitude, longitude) == cell


@pytest.mark.parametrize(
    ("latitude", "longitude"),
    [(35.68, 139.69), (0, 0), (90, 126), (-90, 126), (37.5, -127), (math.nan, 127), (37, math.inf)],
    ids=["tokyo", "null_island", "pole", "south_pole", "other_side", "nan", "inf"],
)
async def test_a_place_outside_korea_is_refused_without_asking(
    services: Services, kma: Kma, latitude: float, longitude: float
) -> None:
    """The error says what was wanted."""
    with pytest.raises(ServiceRefused, match="wanted a place in Korea; ask for one"):
        await kma.forecast(latitude, longitude)

    assert services.requests == []


@given(st.floats(), st.floats())
def test_any_two_numbers_are_a_cell_or_none(latitude: float, longitude: float) -> None:
    """A model's numbers never break the projection."""
    cell = kma_grid.cell(latitude, longitude)

    assert cell is None or (1 <= cell[0] <= kma_grid.COLUMNS and 1 <= cell[1] <= kma_grid.ROWS)


@pytest.mark.parametrize(
    ("now", "issued"),
    [
        ("2026-11-21 00:00", "2026-11-20 23:00"),
        ("2026-11-21 02:09", "2026-11-20 23:00"),
        ("2026-11-21 02:10", "2026-11-21 02:00"),
        ("2026-11-21 05:09", "2026-11-21 02:00"),
        ("2026-11-21 05:10", "2026-11-21 05:00"),
        ("2026-11-21 08:10", "2026-11-21 08:00"),
        ("2026-11-21 11:10", "2026-11-21 11:00"),
        ("2026-11-21 14:10", "2026-11-21 14:00"),
        ("2026-11-21 17:10", "2026-11-21 17:00"),
        ("2026-11-21 20:10", "2026-11-21 20:00"),
        ("2026-11-21 23:09", "2026-11-21 20:00"),
        ("2026-11-21 23:10", "2026-11-21 23:00"),
        ("2026-01-01 01:00", "2025-12-31 23:00"),
    ],
)
def test_the_base_is_the_latest_published_one(now: str, issued: str) -> None:
    """A forecast is out ten minutes after its hour; before the day's first it is yesterday's last."""
    assert f"{base(datetime.fromisoformat(now).replace(tzinfo=KST)):%Y-%m-%d %H:%M}" == issued


def test_the_base_is_korean_whatever_the_clocks_zone() -> None:
    """17:10 UTC is 02:10 of the next day in Korea."""
    assert base(datetime(2026, 11, 20, 17, 10, tzinfo=UTC)) == datetime(2026, 11, 21, 2, tzinfo=KST)


async def test_the_forecast_starts_with_the_current_hour(services: Services, kma: Kma) -> None:
    """Twelve values an hour become one typed hour, in order."""
    forecast = await kma.forecast(37.5665, 126.9780, hours=4)

    assert (forecast.nx, forecast.ny) == (60, 127)
    assert forecast.issued_at == datetime(2026, 11, 21, 11, tzinfo=KST)
    assert [hour.at.hour for hour in forecast.hours] == [12, 13, 14, 15]
    assert forecast.hours[0] == Hour(
        at=datetime(2026, 11, 21, 12, tzinfo=KST),
        temperature_celsius=18.0,
        sky="맑음",
        precipitation="없음",
        precipitation_percent=20,
        rain="강수없음",
        snow="적설없음",
        humidity_percent=45,
        wind_meters_per_second=1.3,
    )
    assert (forecast.hours[3].sky, forecast.hours[3].precipitation, forecast.hours[3].rain) == (
        "흐림",
        "비",
        "1mm 미만",
    )
    params = {name: value for name, value in services.requests[0].params.items() if name != "serviceKey"}
    assert params == {
        "dataType": "JSON",
        "numOfRows": "1500",
        "pageNo": "1",
        "base_date": "20261121",
        "base_time": "1100",
        "nx": "60",
        "ny": "127",
    }


async def test_no_data_is_a_forecast_without_hours(services: Services, kma: Kma) -> None:
    """Code 03 comes without a body."""
    services.script("kma", b'{"response":{"header":{"resultCode":"03","resultMsg":"NO_DATA"}}}')

    assert (await kma.forecast(37.5665, 126.9780)).hours == ()


async def test_missing_and_unknown_values_are_unknown(services: Services, kma: Kma) -> None:
    """KMA writes what is missing as 900 or -999, and sometimes numbers where texts are documented."""
    values = {"TMP": -999, "SKY": "2", "PTY": "x", "POP": 900, "REH": ""}
    items = [
        {"category": name, "fcstDate": 20261122, "fcstTime": 600, "fcstValue": value} for name, value in values.items()
    ]
    body = {"response": {"header": {"resultCode": "0000"}, "body": {"items": {"item": items}}}}
    services.script("kma", json.dumps(body).encode())

    (hour,) = (await kma.forecast(37.5665, 126.9780)).hours

    assert hour == Hour(datetime(2026, 11, 22, 6, tzinfo=KST), None, "", "", None, "", "", None, None)


async def test_a_day_that_is_none_is_an_error(services: Services, kma: Kma) -> None:
    """What cannot be placed in time is not left out silently."""
    item = b'{"category": "TMP", "fcstDate": "20261322", "fcstTime": "0600", "fcstValue": "1"}'
    services.script("kma", b'{"response": {"header": {"resultCode": "00"}, "body": {"items": {"item": [%s]}}}}' % item)

    with pytest.raises(ServiceAnswerError, match="'20261322' '0600' came, wanted a day and a time"):
        await kma.forecast(37.5665, 126.9780)


@pytest.mark.parametrize(
    ("code", "kind", "todo"),
    [
        ("01", ServiceUnavailable, "try again later"),
        ("05", ServiceUnavailable, "try again later"),
        ("10", ServiceRefused, "see whether what was asked for is right"),
        ("12", ServiceRefused, "see whether what was asked for is right"),
        ("20", ServiceRefused, "see whether KMA_SERVICE_KEY is right and was granted this service"),
        ("22", ServiceRefused, "wait, or have the quota of KMA_SERVICE_KEY raised"),
        ("31", ServiceRefused, "see whether KMA_SERVICE_KEY is right and was granted this service"),
        ("99", ServiceUnavailable, "try again later"),
    ],
)
@pytest.mark.parametrize("form", ["xml", "json"])
async def test_the_portals_codes_say_whose_fault_it_is(
    services: Services, kma: Kma, code: str, kind: type[Exception], todo: str, form: str
) -> None:
    """The gateway's XML and the service's JSON hold the same codes."""
    xml = f"<OpenAPI_ServiceResponse><returnAuthMsg>WHY</returnAuthMsg><returnReasonCode>{code}</returnReasonCode>"
    envelope = {"response": {"header": {"resultCode": code, "resultMsg": "WHY"}}}
    services.script("kma", (xml if form == "xml" else json.dumps(envelope)).encode())

    with pytest.raises(kind) as raised:
        await kma.forecast(37.5665, 126.9780)

    assert str(raised.value) == f"KMA: error {code} ('WHY') came, wanted 00; {todo}."


async def test_either_form_of_the_portals_key_works(services: Services) -> None:
    """The portal shows a key encoded and decoded; people copy either."""
    encoded = PORTAL_KEY.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    forecast = await Kma(key=encoded, url=services.url, now=lambda: NOON).forecast(37.5665, 126.9780)

    assert forecast.hours
