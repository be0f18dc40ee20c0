"""What the clients of the public data portal (data.go.kr) share: key, address, and the envelope of all answers.

A good answer is ``{"response": {"header": {"resultCode": "00", ...}, "body": {"items": ..., "totalCount": ...}}}``;
KECO's services leave ``response`` out, and ``items`` is a list, ``{"item": [...]}``, ``{"item": {...}}`` for a single
one, or ``""`` for none. No data is resultCode 03, often without a body. The portal's gateway answers a bad key with
HTTP 200 and XML, even where JSON was asked for, or with 401 and a word.

Documentation: the codes, https://www.data.go.kr/tcs/dss/selectErrCodePopupView.do
Not tried against the real portal: no key; the shapes are those of the documentation and of public programs' reports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self, TypeVar
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError

from graph.clients import environment
from graph.clients.errors import ServiceRefused, ServiceUnavailable
from graph.clients.rows import first
from graph.clients.web import Web

__all__ = ["PublicData"]

T = TypeVar("T")

_NO_DATA = 3
# Application, database, HTTP behind the gateway, timeout behind the gateway, unknown: theirs, and passing.
_THEIRS = frozenset({1, 2, 4, 5, 99})
# Access denied, disabled, not registered, expired, IP not registered, unsigned.
_KEY = frozenset({20, 21, 30, 31, 32, 33})
_QUOTA = frozenset({22, 23})


class PublicData:
    """A client of one service of the portal; usable from any event loop, and nothing of it needs to be closed.

    A subclass sets the class attributes and asks by ``_rows()``.

    Args:
        key: The portal's key, in either form that the portal shows it, encoded or decoded.
        url: Where the portal is; ``None`` for where it is documented to be.
        timeout_seconds: How long one question may take.
        now: The clock.
    """

    SERVICE: ClassVar[str]  # its name in errors
    KEY_SETTING: ClassVar[str]
    WHAT: ClassVar[str]  # what key is wanted, for the error that it is missing
    URL_SETTING: ClassVar[str]
    URL: ClassVar[str] = "https://apis.data.go.kr"

    def __init__(
        self,
        *,
        key: str,
        url: str | None = None,
        timeout_seconds: float = environment.TIMEOUT_SECONDS,
        now: Callable[[], datetime] = environment.now,
    ) -> None:
        self._now = now
        # The encoded form would be encoded once more; the decoded one, base64, holds no percent sign.
        decoded = unquote(key)
        self._web = Web(
            self.SERVICE,
            url=self.URL if url is None else url,
            url_setting=self.URL_SETTING,
            timeout_seconds=timeout_seconds,
            key=decoded,
            key_setting=self.KEY_SETTING,
            key_params={"serviceKey": decoded},
        )

    @classmethod
    def from_env(cls, *, now: Callable[[], datetime] = environment.now) -> Self:
        """Return a client by the two variables that its class names and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If the key is missing, or one of them is malformed.
        """
        return cls(
            key=environment.required(cls.SERVICE, cls.KEY_SETTING, what=cls.WHAT),
            url=environment.optional(cls.URL_SETTING, cls.URL),
            timeout_seconds=environment.timeout_seconds(cls.SERVICE),
            now=now,
        )

    async def _rows(
        self, path: str, params: Mapping[str, str | int | float], shape: TypeAdapter[tuple[T, ...]]
    ) -> tuple[T, ...]:
        """Return the rows that a service answers, none if it has no data.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
        """
        answer = await self._web.get(path, params)
        # The gateway's own errors come under any status.
        code, said = _gateway_error(answer.text)
        if code is not None:
            return self._no_rows(code, said)
        if answer.status != 200:
            raise self._web.failure(answer)
        envelope = self._web.json(answer)
        envelope = envelope.get("response", envelope) if isinstance(envelope, dict) else None
        header = envelope.get("header") if isinstance(envelope, dict) else None
        code = _number(header.get("resultCode")) if isinstance(header, dict) else None
        if envelope is None or header is None or code is None:
            raise self._web.mismatch(answer.text, wanted="a header with a resultCode")
        if code != 0:
            return self._no_rows(code, str(header.get("resultMsg")))
        try:
            return shape.validate_python(_items(envelope.get("body")))
        except ValidationError as error:
            raise self._web.mismatch(first(error), wanted="rows as documented") from None

    def _no_rows(self, code: int, said: str) -> tuple[()]:
        if code == _NO_DATA:
            return ()
        service, came = self._web.service, f"error {code:02} ({self._web.quoted(said)}) came, wanted 00"
        if code in _THEIRS:
            raise ServiceUnavailable(service, f"{came}; try again later.")
        if code in _QUOTA:
            raise ServiceRefused(service, f"{came}; wait, or have the quota of {self._web.key_setting} raised.")
        if code in _KEY:
            todo = f"see whether {self._web.key_setting} is right and was granted this service."
            raise ServiceRefused(service, f"{came}; {todo}")
        raise ServiceRefused(service, f"{came}; see whether what was asked for is right.")


def _gateway_error(text: str) -> tuple[int | None, str]:
    """Read ``<OpenAPI_ServiceResponse>`` or a ``<response>`` with a code; patterns, since XML from outside can harm."""
    if not text.lstrip().startswith("<"):
        return None, ""
    code = re.search(r"<(returnReasonCode|resultCode)>\s*(\d{1,4})\s*</\1>", text)
    said = re.search(r"<(returnAuthMsg|resultMsg)>([^<]{0,200})</\1>", text)
    # A good answer in XML is not an error of the gateway, and not what was asked for.
    if code is None or int(code[2]) == 0:
        return None, ""
    return int(code[2]), said[2] if said else ""


def _number(code: Any) -> int | None:
    """Return ``00``, ``0000`` or 0 as 0; ``None`` for what is no code."""
    text = str(code)
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None


def _items(body: Any) -> Any:
    """Return the rows of any of the four ways; what is none of them is left to the validation."""
    items = body.get("items") if isinstance(body, dict) else body
    if isinstance(items, dict) and "item" in items:
        items = items["item"]
        items = [items] if isinstance(items, dict) else items
    if items in ("", None):
        return ()
    if isinstance(items, list):
        return [row["item"] if isinstance(row, dict) and list(row) == ["item"] else row for row in items]
    return items
