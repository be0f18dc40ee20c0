"""The tool for prices of recyclables, from KECO's monthly survey."""

from __future__ import annotations

from langchain_core.tools import tool

from graph.clients import RecyclablePrices
from graph.tools.calling import as_json

__all__ = ["recyclable_prices"]


@tool(parse_docstring=True)  # without it, Python 3.13 changes the indentation of the description
async def recyclable_prices(item: str = "", region: str = "전국") -> str:
    """재활용 자원이 이번 달에 팔리는 값(원/kg)을 가져옵니다.

    Args:
        item: 품목 이름의 일부. 예: PET, 폐골판지, 철캔, 알루미늄캔. 빈 문자열이면 모든 품목.
        region: 전국, 수도권, 강원, 충북, 충남, 전북, 전남, 경북, 경남 가운데 하나.
    """
    return as_json(await RecyclablePrices.from_env().prices(item, region=region))
