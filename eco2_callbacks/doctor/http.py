"""One HTTP request with a time limit, for checks of services."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

__all__ = ["Reply", "UnreachableError", "request"]

_TIMEOUT_SECONDS = 5.0
_MAX_BYTES = 10_000_000


class UnreachableError(Exception):
    """A server did not answer; the text says why, without the address."""


class Reply(NamedTuple):
    """A server's answer.

    Attributes:
        status: HTTP status.
        body: The body, at most 10 MB.
        clock_offset_seconds: The server's clock minus this machine's; None where the answer has no date.
    """

    status: int
    body: bytes
    clock_offset_seconds: float | None


def request(url: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None) -> Reply:
    """Return the answer to a GET, or to a POST with data; any HTTP status is an answer.

    Raises:
        UnreachableError: If there is none.
    """
    if not url.startswith(("http://", "https://")):
        raise UnreachableError("the address does not begin with http:// or https://")
    asked = urllib.request.Request(url, data=data, headers=dict(headers or {}))  # noqa: S310  checked above
    try:
        with urllib.request.urlopen(asked, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return Reply(answer.status, answer.read(_MAX_BYTES), _offset(answer.headers.get("Date")))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read(_MAX_BYTES), _offset(error.headers.get("Date")))
    except urllib.error.URLError as error:
        raise UnreachableError(str(error.reason)) from error
    except (OSError, ValueError) as error:
        raise UnreachableError(f"{type(error).__name__}: {error}") from error


def _offset(date: str | None) -> float | None:
    try:
        return None if date is None else (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
