"""Client for KMA (Korea Meteorological Administration): the hourly short-term forecast.

Documentation: https://www.data.go.kr/data/15084084/openapi.do (VilageFcstInfoService_2.0, getVilageFcst)
Not tested against the real service, for lack of a key. Shapes and codes come from the documentation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Annotated

from pydantic import Field, TypeAdapter

from graph.clients import kma_grid
from graph.clients.errors import ServiceAnswerError, WrongArguments
from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Text

__all__ = ["KST", "Forecast", "Hour", "Kma", "base_time"]

KST = timezone(timedelta(hours=9), "KST")  # no daylight saving time since 1988
_BASE_HOURS = (2, 5, 8, 11, 14, 17, 20, 23)
_PUBLISHED_AFTER = timedelta(minutes=10)
_ALL_ROWS = 1500  # five days with at most twelve values per hour
_MISSING = 900  # values of at least 900 or at most -900 mean "missing"
_SKY = {1: "맑음", 3: "구름많음", 4: "흐림"}
_PRECIPITATION = {0: "없음", 1: "비", 2: "비/눈", 3: "눈", 4: "소나기"}


@dataclass(frozen=True, slots=True)
class Hour:
    """The forecast for one hour. ``None`` and ``""`` are unknown.

    ``sky`` is 맑음, 구름많음 or 흐림. ``precipitation`` is 없음, 비, 비/눈, 눈 or 소나기. ``rain`` and ``snow`` are
    amounts in KMA's wording, for example 강수없음, 1mm 미만 or 30.0~50.0mm.
    """

    at: datetime
    temperature_celsius: float | None
    sky: str
    precipitation: str
    precipitation_percent: int | None
    rain: str
    snow: str
    humidity_percent: int | None
    wind_meters_per_second: float | None


@dataclass(frozen=True, slots=True)
class Forecast:
    """The forecast for one grid cell, starting with the current hour. ``hours`` is empty if KMA has no data."""

    nx: int
    ny: int
    issued_at: datetime
    hours: tuple[Hour, ...]


@dataclass(frozen=True, slots=True)
class _Value:
    category: Text
    day: Annotated[Text, Field(validation_alias="fcstDate")]
    time: Annotated[Text, Field(validation_alias="fcstTime")]
    value: Annotated[Text, Field(validation_alias="fcstValue")]

    __pydantic_config__ = CONFIG


_VALUES = TypeAdapter(tuple[_Value, ...])


class Kma(PublicData):
    """Client for KMA's short-term forecast. It works in any event loop and needs no closing.

    ``from_env()`` reads ``KMA_SERVICE_KEY``, ``ECO2_KMA_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "KMA"
    KEY_SETTING = "KMA_SERVICE_KEY"
    WHAT = "a key for data.go.kr/data/15084084/openapi.do"
    URL_SETTING = "ECO2_KMA_URL"

    async def forecast(self, latitude: float, longitude: float, *, hours: int = 24) -> Forecast:
        """Return the latest forecast for a place in Korea, for this many hours including the current one.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
            WrongArguments: If the place is outside Korea.
        """
        cell = kma_grid.cell(latitude, longitude)
        if cell is None:
            why = f"got latitude {latitude}, longitude {longitude}, wanted a place in Korea; choose one."
            raise WrongArguments(self.SERVICE, why)
        now = self._now().astimezone(KST)
        issued_at = base_time(now)
        nx, ny = cell
        params: dict[str, str | int | float] = {
            "dataType": "JSON",
            "numOfRows": _ALL_ROWS,
            "pageNo": 1,
            "base_date": f"{issued_at:%Y%m%d}",
            "base_time": f"{issued_at:%H%M}",
            "nx": nx,
            "ny": ny,
        }
        values = await self._rows("/1360000/VilageFcstInfoService_2.0/getVilageFcst", params, _VALUES)
        by_time: dict[datetime, dict[str, str]] = {}
        for value in values:
            by_time.setdefault(_instant(value), {})[value.category] = value.value
        start = now.replace(minute=0, second=0, microsecond=0)
        end = start + timedelta(hours=min(max(hours, 0), 24 * 7))
        found = tuple(_hour(at, by_time[at]) for at in sorted(by_time) if start <= at < end)
        return Forecast(nx=nx, ny=ny, issued_at=issued_at, hours=found)


def base_time(now: datetime) -> datetime:
    """Return the issue time of the latest published forecast.

    KMA issues forecasts at 02, 05, ..., 23 h KST and publishes each 10 minutes later.
    """
    published = now.astimezone(KST) - _PUBLISHED_AFTER
    past = [hour for hour in _BASE_HOURS if hour <= published.hour]
    day = published if past else published - timedelta(days=1)
    return day.replace(hour=past[-1] if past else _BASE_HOURS[-1], minute=0, second=0, microsecond=0)


def _instant(value: _Value) -> datetime:
    try:
        # Some answers contain numbers, so 0600 becomes 600.
        return datetime.strptime(f"{value.day} {value.time:0>4}", "%Y%m%d %H%M").replace(tzinfo=KST)
    except ValueError:
        got = f"got {value.day[:20]!r} {value.time[:20]!r}, wanted a date and a time"
        why = f"{got}; check {Kma.URL_SETTING}."
        raise ServiceAnswerError(Kma.SERVICE, why) from None


def _hour(at: datetime, values: Mapping[str, str]) -> Hour:
    return Hour(
        at=at,
        temperature_celsius=_number(values.get("TMP")),
        sky=_word(_SKY, values.get("SKY")),
        precipitation=_word(_PRECIPITATION, values.get("PTY")),
        precipitation_percent=_whole_number(values.get("POP")),
        rain=values.get("PCP", ""),
        snow=values.get("SNO", ""),
        humidity_percent=_whole_number(values.get("REH")),
        wind_meters_per_second=_number(values.get("WSD")),
    )


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "nan")
    except ValueError:
        return None
    return number if -_MISSING < number < _MISSING else None


def _whole_number(text: str | None) -> int | None:
    number = _number(text)
    return None if number is None else round(number)


def _word(words: Mapping[int, str], code: str | None) -> str:
    number = _whole_number(code)
    return "" if number is None else words.get(number, "")
