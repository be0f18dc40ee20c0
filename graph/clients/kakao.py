"""Client for Kakao Local: places by keyword.

Documentation: https://developers.kakao.com/docs/latest/ko/local/dev-guide#search-by-keyword
Errors: https://developers.kakao.com/docs/latest/ko/rest-api/error-code
Not tested against the real service, for lack of a key. The shapes come from the documentation. Public programs
report the answer to a bad key: 401 with ``errorType`` and ``message``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from graph.clients import environment
from graph.clients.errors import ServiceError
from graph.clients.rows import CONFIG, Text, first_error
from graph.clients.web import Answer, Web

__all__ = ["Kakao", "Place"]

_SERVICE = "Kakao Local"
_URL = "https://dapi.kakao.com"
_KEY_SETTING = "KAKAO_REST_API_KEY"
_URL_SETTING = "ECO2_KAKAO_URL"
_MAX_METERS = 20_000
_MAX_PLACES = 15


def _blank_to_none(value: Any) -> Any:
    return None if value == "" else value


@dataclass(frozen=True, slots=True)
class Place:
    """A place, in WGS84 coordinates. ``distance_meters`` is ``None`` if the search had no centre."""

    name: Annotated[str, Field(validation_alias="place_name", min_length=1)]
    latitude: Annotated[float, Field(validation_alias="y", ge=-90, le=90)]
    longitude: Annotated[float, Field(validation_alias="x", ge=-180, le=180)]
    address: Annotated[Text, Field(validation_alias="address_name")] = ""
    road_address: Annotated[Text, Field(validation_alias="road_address_name")] = ""
    phone: Annotated[Text, Field(validation_alias="phone")] = ""
    category: Annotated[Text, Field(validation_alias="category_name")] = ""
    url: Annotated[Text, Field(validation_alias="place_url")] = ""
    distance_meters: Annotated[int | None, BeforeValidator(_blank_to_none), Field(validation_alias="distance")] = None

    __pydantic_config__ = CONFIG


_PLACES = TypeAdapter(tuple[Place, ...])


class Kakao:
    """Client for Kakao Local. It works in any event loop and needs no closing.

    Args:
        key: The app's REST API key.
        url: The service's address.
        timeout_seconds: The limit for one call.
    """

    def __init__(self, *, key: str, url: str = _URL, timeout_seconds: float = environment.TIMEOUT_SECONDS) -> None:
        self._web = Web(
            _SERVICE,
            url=url,
            url_setting=_URL_SETTING,
            timeout_seconds=timeout_seconds,
            key=key,
            key_setting=_KEY_SETTING,
            key_headers={"Authorization": f"KakaoAK {key}"},
        )

    @classmethod
    def from_env(cls) -> Self:
        """Return a client configured by ``KAKAO_REST_API_KEY``, ``ECO2_KAKAO_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If a setting is missing or malformed.
        """
        return cls(
            key=environment.required(_SERVICE, _KEY_SETTING, what="the REST API key of an app on developers.kakao.com"),
            url=environment.optional(_URL_SETTING, _URL),
            timeout_seconds=environment.timeout_seconds(_SERVICE),
        )

    async def search(
        self, query: str, *, near: tuple[float, float] | None = None, radius_meters: int | None = None, size: int = 5
    ) -> tuple[Place, ...]:
        """Return the places that match a keyword: the nearest first with ``near``, else the best match first.

        Args:
            query: The keyword, for example ``강남역 페트병 수거함``.
            near: Latitude and longitude of the centre.
            radius_meters: The maximum distance from ``near``, at most 20,000. Ignored without ``near``.
            size: The maximum number of places, 1 to 15.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        params: dict[str, str | int | float] = {"query": query, "size": min(max(size, 1), _MAX_PLACES)}
        if near is not None and all(math.isfinite(degrees) for degrees in near):
            params |= {"y": near[0], "x": near[1], "sort": "distance"}
            if radius_meters is not None:
                params["radius"] = min(max(radius_meters, 0), _MAX_METERS)
        answer = await self._web.get("/v2/local/search/keyword.json", params)
        if answer.status != 200:
            raise self._failure(answer)
        body = self._web.json(answer)
        if not isinstance(body, dict) or "documents" not in body:
            raise self._web.mismatch(answer.text, wanted="an object with documents")
        try:
            return _PLACES.validate_python(body["documents"])
        except ValidationError as error:
            raise self._web.mismatch(first_error(error), wanted="places as documented") from None

    def _failure(self, answer: Answer) -> ServiceError:
        """Return the error with Kakao's message: ``errorType`` and ``message``, or ``code`` and ``msg``."""
        try:
            body = self._web.json(answer)
        except ServiceError:
            body = None
        words = []
        if isinstance(body, dict):
            words = [str(body[name]) for name in ("errorType", "code", "message", "msg") if body.get(name)]
        return self._web.failure(answer, message=": ".join(words))
