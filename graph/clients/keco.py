"""KECO, the Korea Environment Corporation: who takes back used phones, small appliances and cars, and where.

Documentation: the service 재활용 폐기물 수거회수처 정보 조회 of B552584 on https://www.data.go.kr (kecoapi/
reutilCltRtrvlBzentyService, getReutilCltRtrvlBzentyInfo). It has no coordinates: whoever wants the nearest one
looks its address up (``graph.clients.kakao``).
Not tried against the real service: no key, and its guide could not be read; parameters and fields are those that
public programs use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, TypeAdapter

from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Text

__all__ = ["CollectionPoint", "Keco"]

_MOST_POINTS = 100


@dataclass(frozen=True, slots=True)
class CollectionPoint:
    """Who takes waste back; ``""`` is unknown.

    ``kind`` is what is taken, as 폐휴대폰, 중소폐가전, 폐자동차; ``method`` how, ``cost`` in words what it costs.
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
    """A client of KECO's collection points; usable from any event loop, and nothing of it needs to be closed.

    ``from_env()`` reads ``KECO_SERVICE_KEY``, ``ECO2_KECO_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.
    """

    SERVICE = "KECO"
    KEY_SETTING = "KECO_SERVICE_KEY"
    WHAT = "a key of data.go.kr granted KECO's service"
    URL_SETTING = "ECO2_KECO_URL"

    async def collection_points(
        self, *, kind: str = "", region: str = "", address: str = "", size: int = 10
    ) -> tuple[CollectionPoint, ...]:
        """Return who takes a kind of waste back in a place.

        Args:
            kind: 폐휴대폰, 중소폐가전 or 폐자동차; ``""`` for all.
            region: As in ``서울특별시 강남구``; ``""`` for anywhere.
            address: A part of the address, as in ``테헤란로``; ``""`` for any.
            size: How many at most, from 1 to 100.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
        """
        wanted = {"kndNm": kind.strip(), "rgnNm": region.strip(), "addr": address.strip()}
        params: dict[str, str | int | float] = {
            "returnType": "json",
            "numOfRows": min(max(size, 1), _MOST_POINTS),
            "pageNo": 1,
            **{name: value for name, value in wanted.items() if value},
        }
        path = "/B552584/kecoapi/reutilCltRtrvlBzentyService/getReutilCltRtrvlBzentyInfo"
        points = await self._rows(path, params, _POINTS)
        return tuple(point for point in points if point.name or point.address)
