"""The tool for bulk-waste fees, from public data."""

from __future__ import annotations

from langchain_core.tools import tool

from graph.clients import BulkWaste
from graph.tools.calling import as_json

__all__ = ["bulk_waste_fees"]

_MAX_FEES = 12  # sizes of one item


@tool(parse_docstring=True)  # without it, Python 3.13 changes the indentation of the description
async def bulk_waste_fees(item: str, district: str, province: str = "") -> str:
    """시·군·구가 대형 폐기물 한 품목에 받는 수수료를 가져옵니다.

    Args:
        item: 품목. 예: 소파, 매트리스, 책상
        district: 시·군·구. 예: 강남구, 수원시
        province: 시·도. 예: 서울특별시. 모르면 빈 문자열.
    """
    fees = await BulkWaste.from_env().fees(item, district=district, province=province)
    # Else the model would present a part of a price list as the whole.
    left_out = {"left_out": len(fees) - _MAX_FEES} if len(fees) > _MAX_FEES else {}
    return as_json(fees[:_MAX_FEES], **left_out)
