"""Public data on the fees of bulk waste: what a town takes for a sofa.

Documentation: https://www.data.go.kr/data/15114146/standard.do (전국대형폐기물수거수수료정보표준데이터,
tn_pubr_public_lar_was_fee_api)
Not tried against the real service: no key; the shapes are those of the documentation and of public programs'
reports (a size is mostly the word ``null``, a fee a text).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from graph.clients.errors import ServiceRefused
from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Day, Text, Won, alike

__all__ = ["BulkWaste", "Fee"]

# A district lists some 160 items, a few up to 700; six cities have a 중구.
_MOST_FEES = 1000
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
    """What a town takes for one kind of bulk waste; ``""`` and ``None`` are unknown.

    One item may have several fees, by sizes that most towns leave out of the data. ``charge`` is 유료 or 무료.
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
    """A client of the fees of bulk waste; usable from any event loop, and nothing of it needs to be closed.

    ``from_env()`` reads ``BULK_WASTE_SERVICE_KEY``, ``ECO2_BULK_WASTE_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "Bulk-waste fees"
    KEY_SETTING = "BULK_WASTE_SERVICE_KEY"
    WHAT = "a key for data.go.kr/data/15114146/standard.do"
    URL_SETTING = "ECO2_BULK_WASTE_URL"
    URL = "https://api.data.go.kr"

    async def fees(self, item: str, *, district: str, province: str = "") -> tuple[Fee, ...]:
        """Return what a district takes for an item, in all its sizes, the cheapest first.

        Args:
            item: As in ``소파``; an item is found by a part of its name, and by a name with more in it.
            district: As in ``강남구``.
            province: As in ``서울특별시`` or ``서울``; ``""`` for any with such a district.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
            ServiceRefused: If no district is given: the fees are the districts' own.
        """
        district, province = district.strip(), province.strip()
        if not district:
            raise ServiceRefused(self.SERVICE, "no district came, wanted one such as 강남구; ask where the waste is.")
        province = _PROVINCES.get(province, province)
        params: dict[str, str | int | float] = {
            "type": "json",
            "numOfRows": _MOST_FEES,
            "pageNo": 1,
            "SGG_NM": district,
            **({"CTPV_NM": province} if province else {}),
        }
        fees = await self._rows("/openapi/tn_pubr_public_lar_was_fee_api", params, _FEES)
        # Here and not by a parameter: only a part of the name is known. And another town's fee would be a wrong answer.
        found = [
            fee
            for fee in fees
            if fee.item
            and alike(fee.item, item)
            and alike(fee.district, district)
            and (not province or alike(fee.province, province))
        ]
        return tuple(sorted(found, key=lambda fee: (fee.fee_won is None, fee.fee_won or 0)))
