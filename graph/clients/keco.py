"""KECO, the Korea Environment Corporation: who takes back used phones, small appliances and cars, and where.

Documentation: the service 재활용 폐기물 수거회수처 정보 조회 of B552584 on https://www.data.go.kr (kecoapi/
reutilCltRtrvlBzentyService, getReutilCltRtrvlBzentyInfo). It has no coordinates: whoever wants the nearest one
looks its address up (``graph.clients.kakao``).
Not tried against the real service: no key, and its guide could not be read; parameters and fields are those that
public programs use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Self

from pydantic import Field, TypeAdapter

from graph.clients import environment
from graph.clients.public_data import PublicData
from graph.clients.rows import CONFIG, Text

__all__ = ["CollectionPoint", "Keco"]

_SERVICE = "KECO"
_URL = "https://apis.data.go.kr"
_KEY_SETTING = "KECO_SERVICE_KEY"
_URL_SETTING = "ECO2_KECO_URL"
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


class Keco:
    """A client of KECO's collection points; usable from any event loop, and nothing of it needs to be closed.

    Args:
        key: The public data portal's key.
        url: Where the portal is.
        timeout_seconds: How long one question may take.
    """

    def __init__(self, *, key: str, url: str = _URL, timeout_seconds: float = environment.TIMEOUT_SECONDS) -> None:
        self._data = PublicData(
            _SERVICE,
            key=key,
            key_setting=_KEY_SETTING,
            url=url,
            url_setting=_URL_SETTING,
            timeout_seconds=timeout_seconds,
        )

    @classmethod
    def from_env(cls) -> Self:
        """Return a client by ``KECO_SERVICE_KEY``, ``ECO2_KECO_URL`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If the key is missing, or one of them is malformed.
        """
        return cls(
            key=environment.required(_SERVICE, _KEY_SETTING, what="a key of data.go.kr granted KECO's service"),
            url=environment.optional(_URL_SETTING, _URL),
            timeout_seconds=environment.timeout_seconds(_SERVICE),
        )

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
        points = await self._data.rows(path, params, _POINTS)
        return tuple(point for point in points if point.name or point.address)
