"""The tool for places, from Kakao Local."""

from __future__ import annotations

from langchain_core.tools import tool

from graph.clients import Kakao
from graph.tools.calling import as_json

__all__ = ["search_places"]

_RADIUS_METERS = 3000


@tool(parse_docstring=True)  # without it, Python 3.13 changes the indentation of the description
async def search_places(query: str, near: str = "") -> str:
    """장소를 키워드로 찾습니다.

    Args:
        query: 찾을 것. 예: 페트병 수거함, 제로웨이스트 가게, 의류 수거함
        near: 기준이 되는 장소 이름 하나. 예: 강남역. 사용자가 말하지 않았으면 빈 문자열.
    """
    kakao = Kakao.from_env()
    if not near:
        return as_json(await kakao.search(query))
    centers = await kakao.search(near, size=1)
    if not centers:
        return as_json(await kakao.search(f"{near} {query}"))
    center = (centers[0].latitude, centers[0].longitude)
    return as_json(await kakao.search(query, near=center, radius_meters=_RADIUS_METERS), near=centers[0].name)
