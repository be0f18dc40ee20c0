"""Kakao Local: places by keyword.

Documentation: https://developers.kakao.com/docs/latest/ko/local/dev-guide#search-by-keyword
Errors: https://developers.kakao.com/docs/latest/ko/rest-api/error-code
Not tried against the real service: no key; the shapes are those of the documentation, and a bad key's 401 with
``errorType`` and ``message`` that of public programs' reports.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from graph.clients import environment
from graph.clients.errors import ServiceError
from graph.clients.rows import CONFIG, Text, first
from graph.clients.web import Answer, Web

__all__ = ["Kakao", "Place"]

_SERVICE = "Kakao Local"
_URL = "https://dapi.kakao.com"
_KEY_SETTING = "KAKAO_REST_API_KEY"
_URL_SETTING = "ECO2_KAKAO_URL"
_MOST_METERS = 20_000
_MOST_PLACES = 15


def _blank(value: Any) -> Any:
    return None if value == "" else value


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the map, in WGS84; ``distance_meters`` is from where was asked, ``None`` if nowhere was."""

    name: Annotated[str, Field(validation_alias="place_name", min_length=1)]
    latitude: Annotated[float, Field(validation_alias="y", ge=-90, le=90)]
    longitude: Annotated[float, Field(validation_alias="x", ge=-180, le=180)]
    address: Annotated[Text, Field(validation_alias="address_name")] = ""
    road_address: Annotated[Text, Field(validation_alias="road_address_name")] = ""
    phone: Annotated[Text, Field(validation_alias="phone")] = ""
    category: Annotated[Text, Field(validation_alias="category_name")] = ""
    url: Annotated[Text, Field(validation_alias="place_url")] = ""
    distance_meters: Annotated[int | None, BeforeValidator(_blank), Field(validation_alias="distance")] = None

    __pydantic_config__ = CONFIG


_PLACES = TypeAdapter(tuple[Place, ...])


class Kakao:
    """A client of Kakao Local; usable from any event loop, and nothing of it needs to be closed.

    Args:
        key: The app's REST API key.
        url: Where the service is.
        timeout_seconds: How long one question may take.
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
        """Return a client by ``KAKAO_REST_API_KEY``, ``ECO2_KAKAO_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If the key is missing, or one of them is malformed.
        """
        return cls(
            key=environment.required(_SERVICE, _KEY_SETTING, what="the REST API key of an app on developers.kakao.com"),
            url=environment.optional(_URL_SETTING, _URL),
            timeout_seconds=environment.timeout_seconds(_SERVICE),
        )

    async def search(
        self, query: str, *, near: tuple[float, float] | None = None, radius_meters: int | None = None, size: int = 5
    ) -> tuple[Place, ...]:
        """Return the places that a keyword names, nearest first if it is said near where, else best first.

        Args:
            query: The keyword, as in ``강남역 페트병 수거함``.
            near: Latitude and longitude.
            radius_meters: How far from there, at most 20,000; without ``near`` it means nothing.
            size: How many places at most, from 1 to 15.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
        """
        params: dict[str, str | int | float] = {"query": query, "size": min(max(size, 1), _MOST_PLACES)}
        if near is not None and all(math.isfinite(degrees) for degrees in near):
            params |= {"y": near[0], "x": near[1], "sort": "distance"}
            if radius_meters is not None:
                params["radius"] = min(max(radius_meters, 0), _MOST_METERS)
        answer = await self._web.get("/v2/local/search/keyword.json", params)
        if answer.status != 200:
            raise self._failure(answer)
        body = self._web.json(answer)
        if not isinstance(body, dict) or "documents" not in body:
            raise self._web.mismatch(answer.text, wanted="an object with documents")
        try:
            return _PLACES.validate_python(body["documents"])
        except ValidationError as error:
            raise self._web.mismatch(first(error), wanted="places as documented") from None

    def _failure(self, answer: Answer) -> ServiceError:
        """Return the error with Kakao's own words, ``errorType`` and ``message`` or ``code`` and ``msg``."""
        try:
            body = self._web.json(answer)
        except ServiceError:
            body = None
        words = []
        if isinstance(body, dict):
            words = [str(body[name]) for name in ("errorType", "code", "message", "msg") if body.get(name)]
        return self._web.failure(answer, said=": ".join(words))
