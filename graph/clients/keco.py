"""Client for KECO (Korea Environment Corporation): collection points of phones, small appliances and cars.

Documentation: the service 재활용 폐기물 수거회수처 정보 조회 of B552584 on https://www.data.go.kr (kecoapi/
reutilCltRtrvlBzentyService, getReutilCltRtrvlBzentyInfo). It has no coordinates; look up the address with
``graph.clients.kakao`` to find the nearest point.
Not tested against the real service, for lack of a key. Parameters and fields are those that public programs use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Text

__all__ = ["CollectionPoint", "Keco"]

_MAX_POINTS = 10


@dataclass(frozen=True, slots=True)
class CollectionPoint:
    """A collection point; ``""`` is unknown.

    ``kind`` is the accepted waste: 폐휴대폰, 중소폐가전 or 폐자동차. ``method`` and ``cost`` are free text.
    """

    name: Annotated[Text, Field(validation_alias="conmNm")] = ""
    kind: Annotated[Text, Field(validation_alias="kndNm")] = ""
    method: Annotated[Text, Field(validation_alias="cltMthdNm")] = ""
    region: Annotated[Text, Field(validation_alias="rgnNm")] = ""
    address: Annotated[Text, Field(validation_alias="addr")] = ""
    phone: Annotated[Text, Field(validation_alias="telNo")] = ""
    cost: Annotated[Text, Field(validation_alias="cltCstCn")] = ""

    __pydantic_config__ = CONFIG


_POINTS = TypeAdapter(tuple[CollectionPoint, ...])


class Keco(PublicData):
    """Client for KECO's collection points. It works in any event loop and needs no closing.

    ``from_env()`` reads ``KECO_SERVICE_KEY``, ``ECO2_KECO_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "KECO"
    KEY_SETTING = "KECO_SERVICE_KEY"
    WHAT = "a key of data.go.kr granted KECO's service"
    URL_SETTING = "ECO2_KECO_URL"

    async def collection_points(
        self, *, kind: str = "", region: str = "", address: str = ""
    ) -> tuple[CollectionPoint, ...]:
        """Return the first collection points for a kind of waste in a region.

        Args:
            kind: 폐휴대폰, 중소폐가전 or 폐자동차; ``""`` for all.
            region: For example ``서울특별시 강남구``; ``""`` for all.
            address: A part of the address, for example ``테헤란로``; ``""`` for all.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        filters = {"kndNm": kind.strip(), "rgnNm": region.strip(), "addr": address.strip()}
        params: dict[str, str | int | float] = {
            "returnType": "json",
            "numOfRows": _MAX_POINTS,
            "pageNo": 1,
            **{name: value for name, value in filters.items() if value},
        }
        path = "/B552584/kecoapi/reutilCltRtrvlBzentyService/getReutilCltRtrvlBzentyInfo"
        points = await self._rows(path, params, _POINTS)
        return tuple(point for point in points if point.name or point.address)
