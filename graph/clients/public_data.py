"""Base of the clients for the public data portal (data.go.kr): key, address and response envelope.

A good answer is ``{"response": {"header": {"resultCode": "00", ...}, "body": {"items": ..., "totalCount": ...}}}``.
Its variants:

- KECO's services omit ``response``.
- ``items`` is a list, ``{"item": [...]}``, ``{"item": {...}}`` for a single row, or ``""`` for no rows.
- "No data" is resultCode 03, often without a body.
- The gateway answers a bad key with HTTP 200 and XML, even to a request for JSON, or with 401 and plain text.

Documentation of the codes: https://www.data.go.kr/tcs/dss/selectErrCodePopupView.do
Not tested against the real portal, for lack of a key. The shapes come from the documentation and from public
programs' reports.
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
from graph.clients.rows import first_error
from graph.clients.web import Web

__all__ = ["PublicData"]

T = TypeVar("T")

_NO_DATA = 3
# Temporary errors of the service: application, database, HTTP or timeout behind the gateway, unknown.
_SERVER_CODES = frozenset({1, 2, 4, 5, 99})
# Access denied, disabled, not registered, expired, IP not registered, unsigned.
_KEY_CODES = frozenset({20, 21, 30, 31, 32, 33})
_QUOTA_CODES = frozenset({22, 23})


class PublicData:
    """Client for one service of the portal. It works in any event loop and needs no closing.

    A subclass sets the class attributes and sends requests with ``_rows()``.

    Args:
        key: The portal's key, encoded or decoded; the portal shows both forms.
        url: The portal's address; ``None`` is the documented one.
        timeout_seconds: The limit for one call.
        now: The clock.
    """

    SERVICE: ClassVar[str]  # the name in errors
    KEY_SETTING: ClassVar[str]
    WHAT: ClassVar[str]  # the key to get, for the error if it is missing
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
        # An encoded key would be encoded again. A decoded key is base64 and has no percent sign.
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
        """Return a client configured by the class's two variables and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If a setting is missing or malformed.
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
        """Return the rows of a service's answer; none if it has no data.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        answer = await self._web.get(path, params)
        # The gateway sends its own errors with any status.
        code, message = _gateway_error(answer.text)
        if code is not None:
            return self._no_rows(code, message)
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
            raise self._web.mismatch(first_error(error), wanted="rows as documented") from None

    def _no_rows(self, code: int, message: str) -> tuple[()]:
        if code == _NO_DATA:
            return ()
        service, got = self._web.service, f"got error {code:02} ({self._web.quoted(message)}), wanted 00"
        if code in _SERVER_CODES:
            raise ServiceUnavailable(service, f"{got}; try again later.")
        if code in _QUOTA_CODES:
            raise ServiceRefused(service, f"{got}; wait, or request a higher quota for {self._web.key_setting}.")
        if code in _KEY_CODES:
            todo = f"check that {self._web.key_setting} is right and has access to this service."
            raise ServiceRefused(service, f"{got}; {todo}")
        raise ServiceRefused(service, f"{got}; check the request.")


def _gateway_error(text: str) -> tuple[int | None, str]:
    """Return code and message of an XML error. It uses patterns, because parsing untrusted XML is unsafe."""
    if not text.lstrip().startswith("<"):
        return None, ""
    code = re.search(r"<(returnReasonCode|resultCode)>\s*(\d{1,4})\s*</\1>", text)
    message = re.search(r"<(returnAuthMsg|resultMsg)>([^<]{0,200})</\1>", text)
    # A successful answer in XML is no gateway error; the caller rejects it, as it wants JSON.
    if code is None or int(code[2]) == 0:
        return None, ""
    return int(code[2]), message[2] if message else ""


def _number(code: Any) -> int | None:
    """Return ``00``, ``0000`` or 0 as 0; ``None`` if it is no code."""
    text = str(code)
    return int(text) if re.fullmatch(r"[0-9]{1,4}", text) else None


def _items(body: Any) -> Any:
    """Return the rows in any of the four forms. Other content is returned as is, and fails the validation."""
    items = body.get("items") if isinstance(body, dict) else body
    if isinstance(items, dict) and "item" in items:
        items = items["item"]
        items = [items] if isinstance(items, dict) else items
    if items in ("", None):
        return ()
    if isinstance(items, list):
        return [row["item"] if isinstance(row, dict) and list(row) == ["item"] else row for row in items]
    return items
