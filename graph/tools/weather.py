"""The tool for the weather forecast, from KMA."""

from __future__ import annotations

import json

from langchain_core.tools import tool

from graph.clients import Kma

__all__ = ["forecast"]

_STEP_HOURS = 3


@tool(parse_docstring=True)  # without it, Python 3.13 changes the indentation of the description
async def forecast(latitude: float, longitude: float) -> str:
    """한국의 한 지점에 대한 하루 동안의 날씨 예보를 세 시간 간격으로 가져옵니다.

    Args:
        latitude: 위도. 장소를 모르면 서울시청의 37.5665.
        longitude: 경도. 장소를 모르면 서울시청의 126.9780.
    """
    result = await Kma.from_env().forecast(latitude, longitude)
    hours = [
        {
            "시각": f"{hour.at:%m월 %d일 %H시}",
            "기온": hour.temperature_celsius,
            "하늘": hour.sky,
            "강수": hour.precipitation,
            "강수확률(%)": hour.precipitation_percent,
        }
        for hour in result.hours[::_STEP_HOURS]
    ]
    return json.dumps({"results": hours}, ensure_ascii=False)
