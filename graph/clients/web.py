"""Sends one HTTP request with a deadline, maps failures to ``ServiceError``, and hides the key.

Keys are part of query strings. httpx logs every URL at level INFO and attaches the request to its exceptions.
Therefore the request inside httpx has no key; the transport adds it on the way out.

Each request opens a connection, so a client works in any event loop and leaves no socket open. The TLS context is
the expensive part of a new ``AsyncClient``; it is created once.
"""

from __future__ import annotations

import asyncio
import functools
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, unquote
from urllib.request import getproxies, proxy_bypass

import httpx

from graph.clients.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
    WrongArguments,
)

__all__ = ["Answer", "Web"]

_MAX_BYTES = 8_000_000  # a thousand rows of any of these services are below 1 MB
_MAX_QUOTED_CHARS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of an HTTP service."""

    status: int
    text: str


class Web:
    """An HTTP service.

    Args:
        service: The name in errors.
        url: Scheme, host and port, and optionally a path prefix.
        url_setting: The variable of ``url``, for errors. Errors never show the URL.
        timeout_seconds: The limit for one request, from the connection to the last byte.
        key: The secret; errors never quote it.
        key_setting: The variable of the key, for errors.
        key_params: Query parameters that contain the key.
        key_headers: Headers that contain the key.

    Raises:
        ServiceUnconfigured: If the URL or the key is malformed.
    """

    def __init__(
        self,
        service: str,
        *,
        url: str,
        url_setting: str,
        timeout_seconds: float,
        key: str,
        key_setting: str,
        key_params: Mapping[str, str] | None = None,
        key_headers: Mapping[str, str] | None = None,
    ) -> None:
        self.service = service
        self.url_setting = url_setting
        self.key_setting = key_setting
        if not (key.isascii() and key.isprintable() and key.split() == [key]):
            why = f"{key_setting} contains spaces or characters that no key has, wanted the key alone; correct it."
            raise ServiceUnconfigured(service, why)
        self._url = _base_url(service, url, url_setting)
        self._timeout_seconds = timeout_seconds
        self._key = key
        self._key_params = dict(key_params or {})
        self._key_headers = dict(key_headers or {})

    async def get(self, path: str, params: Mapping[str, str | int | float]) -> Answer:
        """Return the answer with any status.

        Raises:
            ServiceUnavailable: If there is no answer in time.
            ServiceAnswerError: If the answer cannot be decompressed or is too long.
            WrongArguments: If the parameters cannot be encoded.
            ServiceUnconfigured: If the environment names an invalid proxy.
        """
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                httpx.AsyncClient(transport=self._transport(), timeout=self._timeout_seconds) as client,
                client.stream(
                    "GET", self._url + path, params=params, headers={"Accept": "application/json"}
                ) as response,
            ):
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _MAX_BYTES:
                        why = f"got more than {_MAX_BYTES:,} bytes, wanted one page of results; request fewer."
                        raise ServiceAnswerError(self.service, why)
                return Answer(response.status_code, content.decode("utf-8-sig", errors="replace"))
        except (TimeoutError, httpx.TimeoutException) as error:
            why = (
                f"got no answer, wanted one within {self._timeout_seconds:g} s; "
                "try again later or raise ECO2_CLIENT_TIMEOUT_SECONDS."
            )
            raise ServiceUnavailable(self.service, why) from error
        except httpx.DecodingError as error:
            why = "got an answer that cannot be decompressed, wanted a valid one; try again later."
            raise ServiceAnswerError(self.service, why) from error
        except UnicodeError as error:
            why = "got text with half a character (a lone surrogate), wanted valid text; change the text."
            raise WrongArguments(self.service, why) from error
        # httpx does not always wrap SSL errors of the handshake and OSErrors of the resolver.
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            why = f"got {type(error).__name__}, wanted an answer; try again later or check {self.url_setting}."
            raise ServiceUnavailable(self.service, why) from error

    def failure(self, answer: Answer, *, message: str = "") -> ServiceError:
        """Return the error for an answer whose status is not 200, with the service's message."""
        got = f"got HTTP {answer.status}"
        if message:
            got += f" ({self.quoted(message)})"
        if answer.status >= 500:
            return ServiceUnavailable(self.service, f"{got}, wanted 200; try again later.")
        if answer.status in {401, 403}:
            why = f"{got}, wanted 200; check that {self.key_setting} is right and has access to this service."
            return ServiceRefused(self.service, why)
        if answer.status >= 400:
            why = f"{got}, wanted 200; check {self.url_setting}, the quota and the request."
            return ServiceRefused(self.service, why)
        return ServiceAnswerError(self.service, f"{got}, wanted 200; check {self.url_setting}.")

    def json(self, answer: Answer) -> Any:
        """Return the answer's JSON.

        Raises:
            ServiceAnswerError: If the answer is not JSON.
        """
        try:
            return json.loads(answer.text, parse_constant=_reject_constant)
        except (ValueError, RecursionError) as error:
            raise self.mismatch(answer.text or "nothing", wanted="JSON") from error

    def mismatch(self, got: str, *, wanted: str) -> ServiceAnswerError:
        """Return the error for an answer that is not as documented."""
        why = f"got {self.quoted(got)}, wanted {wanted}; check {self.url_setting}."
        return ServiceAnswerError(self.service, why)

    def quoted(self, text: str) -> str:
        """Return the start of a service's message, quoted and without the key, which some services repeat."""
        plain, encoded = unquote(self._key), quote(unquote(self._key), safe="")
        for secret in {self._key, plain, encoded, encoded.lower(), quote(plain)} - {""}:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return repr(text if len(text) <= _MAX_QUOTED_CHARS else text[:_MAX_QUOTED_CHARS] + "…")

    def _transport(self) -> httpx.AsyncBaseTransport:
        url = httpx.URL(self._url)
        # With a custom transport, httpx ignores the proxies in the environment.
        proxies = {} if proxy_bypass(url.host) else getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if proxy is not None and "://" not in proxy:
            proxy = f"http://{proxy}"
        try:
            inner = httpx.AsyncHTTPTransport(verify=_tls(), proxy=proxy)
        except (ImportError, ValueError) as error:
            why = f"got an invalid proxy from the environment, wanted an HTTP proxy; check {url.scheme.upper()}_PROXY."
            raise ServiceUnconfigured(self.service, why) from error
        return _Keyed(inner, self._key_params, self._key_headers)


class _Keyed(httpx.AsyncBaseTransport):
    """Adds the key to outgoing requests."""

    def __init__(self, inner: httpx.AsyncBaseTransport, params: Mapping[str, str], headers: Mapping[str, str]) -> None:
        self._inner = inner
        self._params = params
        self._headers = headers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        keyed = httpx.Request(
            request.method,
            request.url.copy_merge_params(self._params) if self._params else request.url,
            headers={**request.headers, **self._headers},
            stream=request.stream,
            extensions=request.extensions,
        )
        return await self._inner.handle_async_request(keyed)

    async def aclose(self) -> None:
        await self._inner.aclose()


@functools.cache
def _tls() -> ssl.SSLContext:
    return httpx.create_ssl_context()


def _base_url(service: str, url: str, setting: str) -> str:
    try:
        parsed = httpx.URL(url)
        valid = parsed.scheme in {"http", "https"} and bool(parsed.host) and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError):
        valid = False
    if not valid:
        why = f"{setting} is not a web address, wanted one such as https://apis.data.go.kr; correct it or unset it."
        raise ServiceUnconfigured(service, why)
    return url.rstrip("/")


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(constant)
