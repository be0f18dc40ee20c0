"""KMA: the grid, the issue time and the parsed forecast."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graph.clients import Hour, Kma, ServiceAnswerError, ServiceRefused, ServiceUnavailable, kma_grid
from graph.clients.kma import KST, base_time
from tests.support.service_standins import PORTAL_KEY, Services

NOON = datetime(2026, 11, 21, 12, 34, tzinfo=KST)


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def kma(services: Services) -> Kma:
    return Kma(key=PORTAL_KEY, url=services.url, timeout_seconds=60, now=lambda: NOON)


@pytest.mark.parametrize(
    ("latitude", "longitude", "cell"),
    [
        (37.5665, 126.9780, (60, 127)),
        (35.1796, 129.0756, (98, 76)),
        # The guide's example.
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
async def test_a_place_outside_korea_is_refused_without_a_request(
    services: Services, kma: Kma, latitude: float, longitude: float
) -> None:
    """The client sends no request, and the error says what it wants."""
    with pytest.raises(ServiceRefused, match="wanted a place in Korea; choose one"):
        await kma.forecast(latitude, longitude)

    assert services.requests == []


@given(st.floats(), st.floats())
def test_any_two_numbers_are_a_cell_or_none(latitude: float, longitude: float) -> None:
    """No pair of numbers breaks the projection."""
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
def test_the_base_time_is_the_latest_published_one(now: str, issued: str) -> None:
    """KMA publishes a forecast ten minutes after its issue time."""
    assert f"{base_time(datetime.fromisoformat(now).replace(tzinfo=KST)):%Y-%m-%d %H:%M}" == issued


def test_the_base_time_is_korean_in_every_time_zone() -> None:
    """17:10 UTC is 02:10 of the next day in Korea."""
    assert base_time(datetime(2026, 11, 20, 17, 10, tzinfo=UTC)) == datetime(2026, 11, 21, 2, tzinfo=KST)


async def test_the_forecast_starts_with_the_current_hour(services: Services, kma: Kma) -> None:
    """The twelve values of an hour become one typed hour, in order."""
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
    """Code 03 has no body."""
    services.set_answer("kma", b'{"response":{"header":{"resultCode":"03","resultMsg":"NO_DATA"}}}')

    assert (await kma.forecast(37.5665, 126.9780)).hours == ()


async def test_missing_and_unknown_values_are_unknown(services: Services, kma: Kma) -> None:
    """KMA uses 900 or -999 for missing values, and sometimes sends numbers instead of texts."""
    values = {"TMP": -999, "SKY": "2", "PTY": "x", "POP": 900, "REH": ""}
    items = [
        {"category": name, "fcstDate": 20261122, "fcstTime": 600, "fcstValue": value} for name, value in values.items()
    ]
    body = {"response": {"header": {"resultCode": "0000"}, "body": {"items": {"item": items}}}}
    services.set_answer("kma", json.dumps(body).encode())

    (hour,) = (await kma.forecast(37.5665, 126.9780)).hours

    assert hour == Hour(datetime(2026, 11, 22, 6, tzinfo=KST), None, "", "", None, "", "", None, None)


async def test_an_invalid_date_is_an_error(services: Services, kma: Kma) -> None:
    """A value with an invalid date is not dropped silently."""
    item = b'{"category": "TMP", "fcstDate": "20261322", "fcstTime": "0600", "fcstValue": "1"}'
    services.set_answer(
        "kma", b'{"response": {"header": {"resultCode": "00"}, "body": {"items": {"item": [%s]}}}}' % item
    )

    with pytest.raises(ServiceAnswerError, match="got '20261322' '0600', wanted a date and a time"):
        await kma.forecast(37.5665, 126.9780)


@pytest.mark.parametrize(
    ("code", "kind", "todo"),
    [
        ("01", ServiceUnavailable, "try again later"),
        ("05", ServiceUnavailable, "try again later"),
        ("10", ServiceRefused, "check the request"),
        ("12", ServiceRefused, "check the request"),
        ("20", ServiceRefused, "check that KMA_SERVICE_KEY is right and has access to this service"),
        ("22", ServiceRefused, "wait, or request a higher quota for KMA_SERVICE_KEY"),
        ("31", ServiceRefused, "check that KMA_SERVICE_KEY is right and has access to this service"),
        ("99", ServiceUnavailable, "try again later"),
    ],
)
@pytest.mark.parametrize("form", ["xml", "json"])
async def test_each_code_has_its_error_class(
    services: Services, kma: Kma, code: str, kind: type[Exception], todo: str, form: str
) -> None:
    """The gateway's XML and the service's JSON use the same codes."""
    xml = f"<OpenAPI_ServiceResponse><returnAuthMsg>WHY</returnAuthMsg><returnReasonCode>{code}</returnReasonCode>"
    envelope = {"response": {"header": {"resultCode": code, "resultMsg": "WHY"}}}
    services.set_answer("kma", (xml if form == "xml" else json.dumps(envelope)).encode())

    with pytest.raises(kind) as raised:
        await kma.forecast(37.5665, 126.9780)

    assert str(raised.value) == f"KMA: got error {code} ('WHY'), wanted 00; {todo}."


async def test_either_form_of_the_portals_key_works(services: Services) -> None:
    """The portal shows the key in an encoded and a decoded form."""
    encoded = PORTAL_KEY.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D")

    forecast = await Kma(key=encoded, url=services.url, timeout_seconds=60, now=lambda: NOON).forecast(
        37.5665, 126.9780
    )

    assert forecast.hours
