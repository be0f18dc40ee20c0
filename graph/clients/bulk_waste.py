"""Client for bulk-waste fees from public data: what a district charges for a sofa.

Documentation: https://www.data.go.kr/data/15114146/standard.do (전국대형폐기물수거수수료정보표준데이터,
tn_pubr_public_lar_was_fee_api)
Not tested against the real service, for lack of a key. The shapes come from the documentation and from public
programs' reports: a size is mostly the word ``null``, and a fee is a text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from graph.clients.errors import WrongArguments
from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Day, Text, Won, contains_either

__all__ = ["BulkWaste", "Fee"]

# A district lists about 160 items, some up to 700. Six cities have a 중구.
_MAX_FEES = 1000
_PROVINCES = {
    "서울": "서울특별시",
    "부산": "부산광역시",
    "대구": "대구광역시",
    "인천": "인천광역시",
    "광주": "광주광역시",
    "대전": "대전광역시",
    "울산": "울산광역시",
    "세종": "세종특별자치시",
    "경기": "경기도",
    "강원": "강원특별자치도",
    "충북": "충청북도",
    "충남": "충청남도",
    "전북": "전북특별자치도",
    "전남": "전라남도",
    "경북": "경상북도",
    "경남": "경상남도",
    "제주": "제주특별자치도",
}


@dataclass(frozen=True, slots=True)
class Fee:
    """A district's fee for one kind of bulk waste. ``""`` and ``None`` are unknown.

    One item may have several fees by size; most districts omit the sizes. ``charge`` is 유료 or 무료.
    """

    province: Annotated[Text, Field(validation_alias="ctpvNm")] = ""
    district: Annotated[Text, Field(validation_alias="sggNm")] = ""
    item: Annotated[Text, Field(validation_alias="larWasNm")] = ""
    category: Annotated[Text, Field(validation_alias="larWasSeNm")] = ""
    size: Annotated[Text, Field(validation_alias="larWasSpcfct")] = ""
    charge: Annotated[Text, Field(validation_alias="paidFreeYn")] = ""
    fee_won: Annotated[Won, Field(validation_alias="fee")] = None
    authority: Annotated[Text, Field(validation_alias="mngInstNm")] = ""
    as_of: Annotated[Day, Field(validation_alias="crtrYmd")] = None

    __pydantic_config__ = CONFIG


_FEES = TypeAdapter(tuple[Fee, ...])


class BulkWaste(PublicData):
    """Client for bulk-waste fees. It works in any event loop and needs no closing.

    ``from_env()`` reads ``BULK_WASTE_SERVICE_KEY``, ``ECO2_BULK_WASTE_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "Bulk-waste fees"
    KEY_SETTING = "BULK_WASTE_SERVICE_KEY"
    WHAT = "a key for data.go.kr/data/15114146/standard.do"
    URL_SETTING = "ECO2_BULK_WASTE_URL"
    URL = "https://api.data.go.kr"

    async def fees(self, item: str, *, district: str, province: str = "") -> tuple[Fee, ...]:
        """Return a district's fees for an item in all sizes, the cheapest first.

        Args:
            item: For example ``소파``. It matches if one name contains the other.
            district: For example ``강남구``.
            province: For example ``서울특별시`` or ``서울``; ``""`` matches every province.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
            WrongArguments: If no district is given; fees differ by district.
        """
        district, province = district.strip(), province.strip()
        if not district:
            raise WrongArguments(self.SERVICE, "got no district, wanted one such as 강남구; ask where the waste is.")
        province = _PROVINCES.get(province, province)
        params: dict[str, str | int | float] = {
            "type": "json",
            "numOfRows": _MAX_FEES,
            "pageNo": 1,
            "SGG_NM": district,
            **({"CTPV_NM": province} if province else {}),
        }
        fees = await self._rows("/openapi/tn_pubr_public_lar_was_fee_api", params, _FEES)
        # Filtered here: the service matches whole names only, and a fee of another district would be wrong.
        found = [
            fee
            for fee in fees
            if fee.item
            and contains_either(fee.item, item)
            and contains_either(fee.district, district)
            and (not province or contains_either(fee.province, province))
        ]
        return tuple(sorted(found, key=lambda fee: (fee.fee_won is None, fee.fee_won or 0)))
