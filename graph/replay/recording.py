"""Records HTTP into a new cassette, with the timing of each answer."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import httpx2
from vcr.request import Request

from graph.replay.environment import DUMMY_KEY, KEYS, provider_environment
from graph.replay.errors import CassetteError
from graph.replay.files import cassette_recorder
from graph.replay.matching import identity
from graph.replay.pacing import Timing
from graph.replay.redaction import environment_secrets
from graph.replay.transports import recorded_request, restore_body, transports_handled_by

__all__ = ["record"]

_BILLING_ACCOUNT = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_NOW_FOR_STAND_INS = "2026-11-21T10:00:00+09:00"


@contextmanager
def record(path: Path, *, upstream: Mapping[str, str] | None = None, **variables: str) -> Iterator[None]:
    """Record all HTTP of the block into a new cassette, without secrets. Write nothing if the block fails.

    If the file exists, its requests keep their order.

    Args:
        path: The cassette.
        upstream: Base URL of the server to use for a host, for example ``{"api.openai.com": "http://127.0.0.1:1"}``;
            other hosts are refused. None uses the real hosts, with the keys of the shell.
        variables: Settings for the block, for example keys for the upstream servers.
    """
    kept = (*KEYS, *_BILLING_ACCOUNT) if upstream is None else ()
    keys = {} if upstream is None else dict.fromkeys(KEYS, DUMMY_KEY)
    now = datetime.now(UTC).isoformat(timespec="seconds") if upstream is None else _NOW_FOR_STAND_INS
    with (
        provider_environment(kept, **{"ECO2_NOW": now, **keys, **variables}),
        cassette_recorder(environment_secrets, now).use_cassette(
            path, record_mode="all", drop_unused_requests=True, record_on_exception=False
        ) as cassette,
    ):
        recording = _Recording(cassette, upstream)
        with transports_handled_by(recording):
            yield
        recording.append_all()


class _Recording:
    """The interactions of one recording, in the order in which they began."""

    def __init__(self, cassette: Any, upstream: Mapping[str, str] | None) -> None:
        self._cassette, self._upstream = cassette, upstream
        self._previous_order = [identity(request) for request in cassette.requests]
        self._interactions: list[tuple[Request, dict[str, Any]] | None] = []
        self._lock = threading.Lock()

    def append_all(self) -> None:
        """Add all complete interactions to the cassette."""
        complete = [interaction for interaction in self._interactions if interaction]
        for request, response in sorted(complete, key=self._position):
            self._cassette.append(request, response)

    def _position(self, interaction: tuple[Request, Any]) -> int:
        found = identity(self._cassette.filter_request(interaction[0]))
        return self._previous_order.index(found) if found in self._previous_order else len(self._previous_order)

    def begin(self) -> int:
        with self._lock:
            self._interactions.append(None)
            return len(self._interactions) - 1

    def end(self, number: int, request: Request, response: dict[str, Any]) -> None:
        self._interactions[number] = (request, response)

    def handle(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        incoming = recorded_request(request, b"".join(request.stream))
        if self._cassette.filter_request(incoming) is None:
            return send(transport, restore_body(library, request, incoming.body))
        outgoing = self._outgoing(library, request, incoming.body)
        upstream = library.HTTPTransport(verify=False) if self._upstream is not None else None
        number, began = self.begin(), time.monotonic()
        response = send(upstream or transport, outgoing)
        return self._response(library, response, _RecordedBody(self, number, incoming, response, began, upstream))

    async def handle_async(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        incoming = recorded_request(request, b"".join([part async for part in request.stream]))
        if self._cassette.filter_request(incoming) is None:
            return await send(transport, restore_body(library, request, incoming.body))
        outgoing = self._outgoing(library, request, incoming.body)
        upstream = library.AsyncHTTPTransport(verify=False) if self._upstream is not None else None
        number, began = self.begin(), time.monotonic()
        response = await send(upstream or transport, outgoing)
        return self._response(library, response, _RecordedBody(self, number, incoming, response, began, upstream))

    def _outgoing(self, library: ModuleType, request: Any, body: bytes) -> Any:
        url = str(request.url)
        if self._upstream is not None:
            try:
                base = self._upstream[request.url.host]
            except KeyError:
                raise CassetteError(f"upstream= names {sorted(self._upstream)}, not {request.url.host!r}.") from None
            url = base + request.url.raw_path.decode()
        headers = [(name, value) for name, value in request.headers.multi_items() if name != "host"]
        outgoing = library.Request(request.method, url, headers=headers, content=body, extensions=request.extensions)
        outgoing.headers["accept-encoding"] = "identity"  # the offsets count the bytes of the plain text
        return outgoing

    @staticmethod
    def _response(library: ModuleType, response: Any, body: _RecordedBody) -> Any:
        return library.Response(
            response.status_code, headers=response.headers, stream=body, extensions=response.extensions
        )


class _RecordedBody(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Passes a body to the client and records the time of each chunk.

    It reads the body to its end even if the client stops early.
    """

    def __init__(
        self, recording: _Recording, number: int, request: Request, response: Any, began: float, upstream: Any
    ) -> None:
        self._recording, self._number, self._request, self._response = recording, number, request, response
        self._began, self._upstream = began, upstream
        self._first_byte_seconds = self._elapsed()
        self._body = b""
        self._offsets: list[list[float]] = []
        self._chunks: Any = None
        self._broken = False

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _add(self, chunk: bytes) -> bytes:
        self._body += chunk
        elapsed = self._elapsed()
        if self._offsets and self._offsets[-1][0] == elapsed:
            self._offsets.pop()
        self._offsets.append([elapsed, len(self._body)])
        return chunk

    def _end(self) -> None:
        if self._broken:
            return
        response = self._response
        headers: dict[str, list[str]] = {}
        for name, value in response.headers.multi_items():
            headers.setdefault(name, []).append(value)
        answer = {
            "status": {"code": response.status_code, "message": response.reason_phrase},
            "headers": headers,
            "body": {"string": self._body},
            "timing": Timing(first_byte_seconds=self._first_byte_seconds, chunk_offsets=self._offsets),
        }
        self._recording.end(self._number, self._request, answer)

    def __iter__(self) -> Iterator[bytes]:
        self._chunks = iter(self._response.stream)
        try:
            for chunk in self._chunks:
                yield self._add(chunk)
        except Exception:
            self._broken = True
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = aiter(self._response.stream)
        try:
            async for chunk in self._chunks:
                yield self._add(chunk)
        except Exception:
            self._broken = True
            raise

    def close(self) -> None:
        try:
            for chunk in self._chunks or self._response.stream:
                self._add(chunk)
            self._end()
        finally:
            self._response.stream.close()
            if self._upstream:
                self._upstream.close()

    async def aclose(self) -> None:
        try:
            async for chunk in self._chunks or self._response.stream:
                self._add(chunk)
            self._end()
        finally:
            await self._response.stream.aclose()
            if self._upstream:
                await self._upstream.aclose()
