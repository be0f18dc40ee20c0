"""Kakao Local: the request and the parsed places."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from graph.clients import Kakao, Place, ServiceAnswerError, ServiceRefused
from tests.support.service_standins import KAKAO_KEY, Services

GANGNAM = (37.49808633653005, 127.02800140627488)


@pytest.fixture
def services() -> Iterator[Services]:
    with Services() as services:
        yield services


@pytest.fixture
def kakao(services: Services) -> Kakao:
    return Kakao(key=KAKAO_KEY, url=services.url, timeout_seconds=60)


async def test_a_place_is_found_by_its_name(services: Services, kakao: Kakao) -> None:
    """Coordinates are numbers. Without a centre, the distance is unknown."""
    place, *_ = await kakao.search("강남역 지하철", size=3)

    assert place == Place(
        name="강남역 2호선",
        latitude=37.49808633653005,
        longitude=127.02800140627488,
        address="서울 강남구 역삼동 858",
        road_address="서울 강남구 강남대로 지하 396",
        phone="02-6110-2221",
        category="교통,수송 > 지하철,전철 > 수도권2호선",
        url="http://place.map.kakao.com/8000000",
        distance_meters=None,
    )
    assert services.requests[0].params == {"query": "강남역 지하철", "size": "3"}


async def test_places_near_a_centre_are_sorted_by_distance(services: Services, kakao: Kakao) -> None:
    """Distances are in metres. Values outside the service's limits are clamped."""
    places = await kakao.search("분리수거함", near=GANGNAM, radius_meters=50_000, size=99)

    assert [place.name for place in places] == ["역삼1동주민센터 투명페트병 수거함", "네프론 서초2동"]
    assert [place.distance_meters for place in places] == [541, 675]
    assert services.requests[0].params == {
        "query": "분리수거함",
        "size": "15",
        "x": "127.02800140627488",
        "y": "37.49808633653005",
        "sort": "distance",
        "radius": "20000",
    }


async def test_nothing_found_is_an_empty_result(kakao: Kakao) -> None:
    """No match is no error."""
    assert await kakao.search("어디에도없는곳") == ()


async def test_an_error_never_quotes_the_key(services: Services) -> None:
    """The error quotes Kakao's message without the key."""
    with pytest.raises(ServiceRefused) as raised:
        await Kakao(key="secret-key", url=services.url, timeout_seconds=60).search("강남역")

    assert str(raised.value) == (
        "Kakao Local: got HTTP 401 ('AccessDeniedError: wrong appKey(***) format'), wanted 200; "
        "check that KAKAO_REST_API_KEY is right and has access to this service."
    )


async def test_an_empty_query_is_refused(kakao: Kakao) -> None:
    """The service refuses an empty query."""
    with pytest.raises(ServiceRefused, match="query parameter required"):
        await kakao.search("")


async def test_half_a_character_is_refused(kakao: Kakao) -> None:
    """A model may emit half a character, which cannot be encoded."""
    with pytest.raises(ServiceRefused, match="got text with half a character"):
        await kakao.search("\ud83d")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"{}", "wanted an object with documents"),
        (b'{"documents": 1}', "Input should be a valid tuple at the top"),
        (b'{"documents": [{"place_name": "a", "x": "127", "y": "north"}]}', "at 0.y, not 'north'"),
        (b'{"documents": [{"place_name": "a", "x": "127", "y": "91"}]}', "less than or equal to 90 at 0.y"),
        (b'{"documents": [{"x": "127", "y": "37"}]}', "Field required at 0.place_name"),
    ],
    ids=["no_documents", "no_list", "no_number", "no_latitude", "no_name"],
)
async def test_an_error_names_the_invalid_field(services: Services, kakao: Kakao, answer: bytes, message: str) -> None:
    """The error names the first invalid field."""
    services.set_answer("kakao", answer)

    with pytest.raises(ServiceAnswerError) as raised:
        await kakao.search("강남역")

    assert message in str(raised.value)
