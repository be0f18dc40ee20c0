"""The tool for collection points, from KECO."""

from __future__ import annotations

from langchain_core.tools import tool

from graph.clients import Keco
from graph.tools.calling import as_json

__all__ = ["collection_points"]


@tool(parse_docstring=True)  # without it, Python 3.13 changes the indentation of the description
async def collection_points(kind: str = "", region: str = "", address: str = "") -> str:
    """폐휴대폰, 중소형 폐가전, 폐자동차를 받아 주는 수거·회수처를 찾습니다.

    Args:
        kind: 폐휴대폰, 중소폐가전, 폐자동차 가운데 하나. 빈 문자열이면 모두.
        region: 시·도와 시·군·구. 예: 서울특별시 강남구
        address: 주소의 일부. 예: 테헤란로. 모르면 빈 문자열.
    """
    return as_json(await Keco.from_env().collection_points(kind=kind, region=region, address=address))
