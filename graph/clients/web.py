"""One HTTP question and its answer: deadline, failures as ``ServiceError``, and the key kept out of sight.

Keys travel in query strings, and httpx logs every URL at level INFO and puts the request on its exceptions. So the
request that httpx knows has no key: the transport adds it on the way out.

A connection lives as long as its question, so that a client can be used from any event loop and leaves no socket
open. What is expensive about a new ``AsyncClient``, the TLS context, is made once.
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
)

__all__ = ["Answer", "Web"]

_MOST_BYTES = 8_000_000  # a thousand rows of any of these services are below 1 MB
_MOST_CHARACTERS = 200


@dataclass(frozen=True, slots=True)
class Answer:
    """What an HTTP service answered."""

    status: int
    text: str


class Web:
    """An HTTP service.

    Args:
        service: Its name in errors.
        url: Scheme, host and port, and perhaps a path that all its paths lie below.
        url_setting: The variable that ``url`` can be set by, for errors, which never show the URL itself.
        timeout_seconds: How long one question may take, from the connection to the answer's last byte.
        key: The secret, taken out of whatever errors quote.
        key_setting: The variable that the key is set by, for errors.
        key_params: Query parameters with the key.
        key_headers: Headers with the key.

    Raises:
        ServiceUnconfigured: If the URL is none, or the key cannot be one.
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
            why = f"{key_setting} holds spaces or signs that no key has, wanted the key alone; set it so."
            raise ServiceUnconfigured(service, why)
        self._url = _base(service, url, url_setting)
        self._timeout_seconds = timeout_seconds
        self._key = key
        self._key_params = dict(key_params or {})
        self._key_headers = dict(key_headers or {})

    async def get(self, path: str, params: Mapping[str, str | int | float]) -> Answer:
        """Return the answer, whatever its status.

        Raises:
            ServiceUnavailable: If there is none in time.
            ServiceAnswerError: If it cannot be read, or is far too long.
            ServiceRefused: If what is asked for cannot be sent.
            ServiceUnconfigured: If the environment names a proxy that cannot be used.
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
                    if len(content) > _MOST_BYTES:
                        why = f"more than {_MOST_BYTES:,} bytes came, wanted one page of results; ask for fewer."
                        raise ServiceAnswerError(self.service, why)
                return Answer(response.status_code, content.decode("utf-8-sig", errors="replace"))
        except (TimeoutError, httpx.TimeoutException) as error:
            why = (
                f"no answer came, wanted one within {self._timeout_seconds:g} s; "
                "try again later or raise ECO2_CLIENT_TIMEOUT_SECONDS."
            )
            raise ServiceUnavailable(self.service, why) from error
        except httpx.DecodingError as error:
            why = "a broken compression came, wanted an HTTP answer; try again later."
            raise ServiceAnswerError(self.service, why) from error
        except UnicodeError as error:
            why = "half a character came, wanted whole ones; ask with other words."
            raise ServiceRefused(self.service, why) from error
        # An SSL error during the handshake and an OSError of the resolver come through unwrapped at times.
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            why = (
                f"{type(error).__name__} came, wanted an answer; "
                f"try again later or see whether {self.url_setting} is right."
            )
            raise ServiceUnavailable(self.service, why) from error

    def failure(self, answer: Answer, *, said: str = "") -> ServiceError:
        """Return what an answer with another status than 200 means, to be raised, quoting what the service said."""
        came = f"HTTP {answer.status} came"
        if said:
            came += f" ({self.quoted(said)})"
        if answer.status >= 500:
            return ServiceUnavailable(self.service, f"{came}, wanted 200; try again later.")
        if answer.status in {401, 403}:
            why = f"{came}, wanted 200; see whether {self.key_setting} is right and may use this service."
            return ServiceRefused(self.service, why)
        if answer.status >= 400:
            why = f"{came}, wanted 200; see whether {self.url_setting}, the quota and what was asked for are right."
            return ServiceRefused(self.service, why)
        return ServiceAnswerError(self.service, f"{came}, wanted 200; see whether {self.url_setting} is right.")

    def json(self, answer: Answer) -> Any:
        """Return the answer's JSON.

        Raises:
            ServiceAnswerError: If it is none.
        """
        try:
            return json.loads(answer.text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise self.mismatch(answer.text or "nothing", wanted="JSON") from error

    def mismatch(self, came: str, *, wanted: str) -> ServiceAnswerError:
        """Return the error of an answer that is not as documented, to be raised."""
        why = f"{self.quoted(came)} came, wanted {wanted}; see whether {self.url_setting} is right."
        return ServiceAnswerError(self.service, why)

    def quoted(self, text: str) -> str:
        """Return the beginning of what a service said, in quotes and without the key, which some repeat."""
        plain, encoded = unquote(self._key), quote(unquote(self._key), safe="")
        for secret in {self._key, plain, encoded, encoded.lower(), quote(plain)} - {""}:
            text = text.replace(secret, "***")
        text = " ".join(text.split())
        return repr(text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…")

    def _transport(self) -> httpx.AsyncBaseTransport:
        url = httpx.URL(self._url)
        # With a transport of its own httpx does not look for proxies in the environment.
        proxies = {} if proxy_bypass(url.host) else getproxies()
        proxy = proxies.get(url.scheme) or proxies.get("all")
        if proxy is not None and "://" not in proxy:
            proxy = f"http://{proxy}"
        try:
            inner = httpx.AsyncHTTPTransport(verify=_tls(), proxy=proxy)
        except (ImportError, ValueError) as error:
            why = f"a proxy that cannot be used came with the environment, wanted HTTP; see {url.scheme.upper()}_PROXY."
            raise ServiceUnconfigured(self.service, why) from error
        return _Keyed(inner, self._key_params, self._key_headers)


class _Keyed(httpx.AsyncBaseTransport):
    """Adds the key to what goes out."""

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


def _base(service: str, url: str, setting: str) -> str:
    try:
        parsed = httpx.URL(url)
        sound = parsed.scheme in {"http", "https"} and bool(parsed.host) and not parsed.query and not parsed.fragment
    except (httpx.InvalidURL, ValueError):
        sound = False
    if not sound:
        why = f"{setting} is not a web address, wanted one such as https://apis.data.go.kr; set it so or unset it."
        raise ServiceUnconfigured(service, why)
    return url.rstrip("/")


def _no_number(constant: str) -> NoReturn:
    raise ValueError(constant)
