"""Cassettes: HTTP recorded once, and answered from the file ever after, at the recorded pace.

vcrpy keeps the cassette: filters, matching, YAML. It stores no times and plays a body in one piece, so the transports
of httpx and httpx2, which the SDKs and the clients use, are handled here and not by its stubs: ``skip_patchers`` leaves
them out, and what stands in for ``handle_request`` asks the cassette by the methods that vcrpy's own stubs call
(``filter_request``, ``can_play_response_for``, ``play_response``, ``append``). Every other HTTP library stays vcrpy's,
so its requests are refused too. Requests to the loopback pass: they are no network. Some requests name the hour, so
both recording and replay stand at one instant, which the clients' clocks take from ``ECO2_NOW``.
"""

from __future__ import annotations

import asyncio
import difflib
import itertools
import json
import os
import re
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypedDict
from unittest import mock
from urllib.parse import parse_qsl, quote, urlsplit, urlunsplit

import httpx
import httpx2
import vcr
import yaml
from vcr.errors import CannotOverwriteExistingCassetteException
from vcr.request import Request
from vcr.serialize import deserialize, serialize

__all__ = [
    "DUMMY_KEY",
    "KEYS",
    "CassetteError",
    "Playback",
    "Timing",
    "UnknownRequestError",
    "environment",
    "record",
    "replay",
    "seconds",
]

KEYS: Final = (
    "OPENAI_API_KEY",
    "GOOGLE_API_KEY",
    "KAKAO_REST_API_KEY",
    "KMA_SERVICE_KEY",
    "KECO_SERVICE_KEY",
    "BULK_WASTE_SERVICE_KEY",
    "RECYCLABLE_PRICE_SERVICE_KEY",
)
"""The variables that hold the keys of everything that is recorded."""

_ACCOUNT = ("OPENAI_ORG_ID", "OPENAI_PROJECT_ID")  # who is billed
_STAND_IN_S_NOW = "2026-11-21T10:00:00+09:00"
_REDACTED = "REDACTED"
DUMMY_KEY = "replayed-without-a-key"
_MATCH_ON = ("method", "scheme", "host", "port", "path", "query", "body")
# Settings that change the requests, their hosts or their way, or that send requests of their own.
_SETTINGS = re.compile(
    r"(GEMINI|GOOGLE|LANGCHAIN|LANGSMITH|OPENAI|OTEL)_.*|ECO2_\w+_(URL|MODEL)|(all|http|https|no)_proxy", re.IGNORECASE
)
# All others are secret (keys, cookies, organisation) or change with every run (request ids, dates, the SDKs' versions).
_KEPT_HEADERS = frozenset({"accept", "content-type", "retry-after"})
_SECRET_PARAMETERS = frozenset(
    {"access_token", "api_key", "apikey", "appid", "appkey", "auth", "client_secret", "key", "servicekey", "token"}
)
_SECRET_FIELDS = _SECRET_PARAMETERS - {"auth", "key", "token"} | {"authorization", "password", "secret"}
_SECRET_VARIABLES = re.compile(r".*(KEY|TOKEN|SECRET|PASSWORD)|OPENAI_(ORG|ORGANIZATION|PROJECT)(_ID)?")
_MOST_LINES, _LONGEST_LINE = 40, 400  # of the difference between two requests
_SHORTEST_SECRET = 8  # a shorter value may be a word of the text
_QUOTED = re.compile(r"[^\w.~:,/-]")
_IDENTITIES = re.compile(
    r"""\bBearer\s+[\w.~+/=-]+ | \bsk-[\w-]{16,} | \bAIza[\w-]{20,} | \borg-\w{16,} | \bproj_\w{16,}
    | \breq_[0-9a-zA-Z]{16,} | \buser-[0-9a-zA-Z]{20,}""",
    re.VERBOSE,
)


class CassetteError(RuntimeError):
    """A cassette could not be played."""


class UnknownRequestError(CassetteError):
    """A request that the cassette does not hold, or no longer; ``requests`` names all that were refused."""

    def __init__(self, path: Path, requests: Sequence[str]) -> None:
        self.path, self.requests = path, tuple(requests)
        super().__init__(
            f"The cassette {path} holds no answer to this request; was a prompt, a tool or a model changed? "
            f"Record it anew: python -m tests.support.record_cassettes\n{requests[0]}"
        )


class Timing(TypedDict):
    """When an answer came, in seconds since its request began; stands beside each interaction."""

    first_byte_seconds: float
    """Until the headers."""
    chunk_offsets: list[list[float]]
    """``[seconds, bytes]``: until when how many bytes of the body, as the cassette holds it, had come."""


class Playback:
    """A cassette that is being played: what was refused, and what nobody asked for."""

    def __init__(self, path: Path, cassette: Any, speed: float | None) -> None:
        self._path, self._cassette = path, cassette
        self._pace = 1 / speed if speed else 0.0
        self._lock = threading.Lock()
        self.refused: list[str] = []

    @property
    def unused(self) -> list[str]:
        """The recorded requests that were not made."""
        requests = self._cassette.requests
        return [str(request) for index, request in enumerate(requests) if not self._cassette.play_counts[index]]

    def answer(self, request: Request) -> dict[str, Any]:
        """Return the next recorded answer to this request; an equal request at the same time gets the one after it."""
        with self._lock:  # held for the look-up, not while an answer is paced
            if self._cassette.can_play_response_for(request):
                answer: dict[str, Any] = self._cassette.play_response(request)
                return answer
        self.refused.append(_refusal(self._cassette, request))
        raise UnknownRequestError(self._path, self.refused)

    def check(self) -> None:
        """Raise UnknownRequestError if a request was refused."""
        if self.refused:
            raise UnknownRequestError(self._path, self.refused)

    def handle(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Stand in for ``handle_request`` of a library's transport, which is ``send``."""
        began = time.monotonic()
        question = _question(request, b"".join(request.stream))
        if self._cassette.filter_request(question) is None:
            return send(transport, _again(library, request, question.body))
        answer = self.answer(question)
        body = _Paced(answer, began, self._pace)
        time.sleep(max(0.0, body.headers_at - time.monotonic()))
        return _response(library, answer, body)

    async def handle_async(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Stand in for ``handle_async_request`` of a library's transport, which is ``send``."""
        began = time.monotonic()
        question = _question(request, b"".join([part async for part in request.stream]))
        if self._cassette.filter_request(question) is None:
            return await send(transport, _again(library, request, question.body))
        answer = self.answer(question)
        body = _Paced(answer, began, self._pace)
        await asyncio.sleep(max(0.0, body.headers_at - time.monotonic()))
        return _response(library, answer, body)


@contextmanager
def replay(path: Path, *, speed: float | None = None) -> Iterator[Playback]:
    """Answer all HTTP from the cassette until the block ends, and refuse what it does not hold.

    No key, setting or endpoint of the shell has a part in it.

    Args:
        path: The cassette.
        speed: Time to first byte and pace of a body are the recorded ones divided by this; None does not wait.

    Raises:
        CassetteError: If there is no such cassette.
        UnknownRequestError: If a request was refused, whatever the code in between made of that.
    """
    if speed is not None and not speed > 0:
        raise ValueError(
            f"speed={speed!r}, but a replay is as fast as recorded (1), faster (10) or without waiting (None)"
        )
    if not path.is_file():
        raise CassetteError(f"No cassette at {path}. Record it: python -m tests.support.record_cassettes")
    with (
        environment(ECO2_NOW=_recorded_at(path), **dict.fromkeys(KEYS, DUMMY_KEY)),
        _recorder(lambda: (DUMMY_KEY,)).use_cassette(
            path, record_mode="none", allow_playback_repeats=False
        ) as cassette,
        _handled_by(playback := Playback(path, cassette, speed)),
    ):
        try:
            yield playback
        except UnknownRequestError:
            raise
        except Exception as error:
            if playback.refused:
                raise UnknownRequestError(path, playback.refused) from error
            raise
        playback.check()


@contextmanager
def record(path: Path, *, upstream: Mapping[str, str] | None = None, **variables: str) -> Iterator[None]:
    """Write all HTTP until the block ends into a new cassette, without its secrets; nothing if the block fails.

    Recorded over an older cassette, requests that were in it keep their places.

    Args:
        path: The cassette.
        upstream: Base URL of the server that answers for a provider's host, as ``{"api.openai.com": "http://127.0.0.1:1"}``;
            a host that is missing is refused. None asks the real hosts, with the keys of the shell.
        variables: Settings for the block, such as the keys that an upstream wants.
    """
    kept = (*KEYS, *_ACCOUNT) if upstream is None else ()
    keys = {} if upstream is None else dict.fromkeys(KEYS, DUMMY_KEY)
    now = datetime.now(UTC).isoformat(timespec="seconds") if upstream is None else _STAND_IN_S_NOW
    with (
        environment(kept, **{"ECO2_NOW": now, **keys, **variables}),
        _recorder(_secrets, now).use_cassette(
            path, record_mode="all", drop_unused_requests=True, record_on_exception=False
        ) as cassette,
    ):
        recording = _Recording(cassette, upstream)
        with _handled_by(recording):
            yield
        recording.append_all()


@contextmanager
def environment(kept: Collection[str] = (), /, **variables: str) -> Iterator[None]:
    """Put these variables in the place of all settings of providers, services, proxies and tracing.

    Args:
        kept: Names of settings to leave as they are.
        variables: What to set.
    """
    before = {
        name: value
        for name, value in os.environ.items()
        if (_SETTINGS.fullmatch(name) and name not in kept) or name in variables
    }
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


def seconds(path: Path) -> float:
    """Return how long the cassette's answers took, one after the other: what a replay at speed 1 takes at most."""
    interactions = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)["interactions"]  # noqa: S506 # a safe one
    return sum(_last(interaction["timing"]) for interaction in interactions if "timing" in interaction)


def _recorded_at(path: Path) -> str:
    """Return the instant that the recording stood at, ``""`` for now."""
    with path.open(encoding="utf-8") as lines:
        head = yaml.safe_load("".join(itertools.islice(lines, 2)))
    return str(head.get("recorded_at") or "")


def _last(timing: Timing) -> float:
    offsets = timing["chunk_offsets"]
    return offsets[-1][0] if offsets else timing["first_byte_seconds"]


class _Paced(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A recorded body that comes in the recorded pieces, each not before its time."""

    def __init__(self, answer: Mapping[str, Any], began: float, pace: float) -> None:
        self._body: bytes = answer["body"]["string"]
        self._began, self._pace = began, pace
        timing: Timing = answer.get("timing", Timing(first_byte_seconds=0.0, chunk_offsets=[]))
        self.headers_at = began + timing["first_byte_seconds"] * pace
        self._offsets = timing["chunk_offsets"]

    def _pieces(self) -> Iterator[tuple[float, bytes]]:
        begin = 0
        for offset_seconds, end in self._offsets:
            yield self._began + offset_seconds * self._pace, self._body[begin : int(end)]
            begin = int(end)
        if begin < len(self._body):
            yield 0.0, self._body[begin:]

    def __iter__(self) -> Iterator[bytes]:
        for due, piece in self._pieces():
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            yield piece

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for due, piece in self._pieces():
            if self._pace:  # also where a piece is late: streams in parallel take turns
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield piece

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


class _Recording:
    """The interactions of one recording, in the order in which they began."""

    def __init__(self, cassette: Any, upstream: Mapping[str, str] | None) -> None:
        self._cassette, self._upstream = cassette, upstream
        self._order = [_identity(request) for request in cassette.requests]
        self._interactions: list[tuple[Request, dict[str, Any]] | None] = []
        self._lock = threading.Lock()

    def append_all(self) -> None:
        """Hand all interactions to the cassette."""
        complete = [interaction for interaction in self._interactions if interaction]
        for request, response in sorted(complete, key=self._place):
            self._cassette.append(request, response)

    def _place(self, interaction: tuple[Request, Any]) -> int:
        identity = _identity(self._cassette.filter_request(interaction[0]))
        return self._order.index(identity) if identity in self._order else len(self._order)

    def begin(self) -> int:
        with self._lock:
            self._interactions.append(None)
            return len(self._interactions) - 1

    def end(self, number: int, request: Request, response: dict[str, Any]) -> None:
        self._interactions[number] = (request, response)

    def handle(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        question = _question(request, b"".join(request.stream))
        if self._cassette.filter_request(question) is None:
            return send(transport, _again(library, request, question.body))
        outgoing = self._outgoing(library, request, question.body)
        own = library.HTTPTransport(verify=False) if self._upstream is not None else None
        number, began = self.begin(), time.monotonic()
        response = send(own or transport, outgoing)
        return self._recorded(library, response, _Recorded(self, number, question, response, began, own))

    async def handle_async(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        question = _question(request, b"".join([part async for part in request.stream]))
        if self._cassette.filter_request(question) is None:
            return await send(transport, _again(library, request, question.body))
        outgoing = self._outgoing(library, request, question.body)
        own = library.AsyncHTTPTransport(verify=False) if self._upstream is not None else None
        number, began = self.begin(), time.monotonic()
        response = await send(own or transport, outgoing)
        return self._recorded(library, response, _Recorded(self, number, question, response, began, own))

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
        outgoing.headers["accept-encoding"] = "identity"  # the offsets count the bytes of the text
        return outgoing

    @staticmethod
    def _recorded(library: ModuleType, response: Any, body: _Recorded) -> Any:
        return library.Response(
            response.status_code, headers=response.headers, stream=body, extensions=response.extensions
        )


class _Recorded(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body on its way to the client, noted with the time of each piece, to its end if the client stops before."""

    def __init__(
        self, recording: _Recording, number: int, request: Request, response: Any, began: float, own: Any
    ) -> None:
        self._recording, self._number, self._request, self._response = recording, number, request, response
        self._began, self._own = began, own
        self._first = self._elapsed()
        self._body = b""
        self._offsets: list[list[float]] = []
        self._pieces: Any = None
        self._broken = False

    def _elapsed(self) -> float:
        return round(time.monotonic() - self._began, 3)

    def _note(self, piece: bytes) -> bytes:
        self._body += piece
        elapsed = self._elapsed()
        if self._offsets and self._offsets[-1][0] == elapsed:
            self._offsets.pop()
        self._offsets.append([elapsed, len(self._body)])
        return piece

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
            "timing": Timing(first_byte_seconds=self._first, chunk_offsets=self._offsets),
        }
        self._recording.end(self._number, self._request, answer)

    def __iter__(self) -> Iterator[bytes]:
        self._pieces = iter(self._response.stream)
        try:
            for piece in self._pieces:
                yield self._note(piece)
        except Exception:
            self._broken = True
            raise

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._pieces = aiter(self._response.stream)
        try:
            async for piece in self._pieces:
                yield self._note(piece)
        except Exception:
            self._broken = True
            raise

    def close(self) -> None:
        try:
            for piece in self._pieces or self._response.stream:
                self._note(piece)
            self._end()
        finally:
            self._response.stream.close()
            if self._own:
                self._own.close()

    async def aclose(self) -> None:
        try:
            async for piece in self._pieces or self._response.stream:
                self._note(piece)
            self._end()
        finally:
            await self._response.stream.aclose()
            if self._own:
                await self._own.aclose()


@contextmanager
def _handled_by(handler: Playback | _Recording) -> Iterator[None]:
    """Let the transports of both libraries ask this handler instead of a server."""
    with ExitStack() as stack:
        for library in (httpx, httpx2):
            for transport, method, handle in (
                (library.HTTPTransport, "handle_request", handler.handle),
                (library.AsyncHTTPTransport, "handle_async_request", handler.handle_async),
            ):
                stack.enter_context(mock.patch.object(transport, method, _method(library, transport, method, handle)))
        yield


def _method(library: ModuleType, transport: type, method: str, handle: Callable[..., Any]) -> Callable[..., Any]:
    send = getattr(transport, method)
    return lambda self, request: handle(library, self, request, send)


def _question(request: Any, body: bytes) -> Request:
    return Request(request.method, str(request.url), body, dict(request.headers))


def _again(library: ModuleType, request: Any, body: bytes) -> Any:
    """Give a request back the body that was read from it."""
    request.stream = library.ByteStream(body)
    return request


def _response(library: ModuleType, answer: Mapping[str, Any], body: _Paced) -> Any:
    headers = [(name, value) for name, values in answer["headers"].items() for value in values]
    return library.Response(answer["status"]["code"], headers=headers, stream=body)


def _refusal(cassette: Any, request: Request) -> str:
    """Return what was asked, and how the most similar recorded request differs, both without secrets."""
    found = CannotOverwriteExistingCassetteException(cassette=cassette, failed_request=request)
    asked = cassette.filter_request(request)
    lines = [f"{asked.method} {asked.uri}"]
    if found.reason == "already_played":
        lines.append("Every recorded answer to it was played already.")
    elif found.similar_requests:
        closest = found.similar_requests[0][0]
        lines.append(f"Most similar: {closest.method} {closest.uri}")
        before, now = ((one.body or b"").decode(errors="replace").splitlines() for one in (closest, asked))
        difference = difflib.unified_diff(before, now, "recorded", "asked", n=1, lineterm="")
        lines += [line[:_LONGEST_LINE] for line in itertools.islice(difference, _MOST_LINES)]
    return "\n".join(lines)


def _identity(request: Request) -> tuple[str, str, bytes]:
    return request.method, request.uri, request.body


def _recorder(secrets: Callable[[], Sequence[str]], now: str = "") -> Any:
    recorder = vcr.VCR(
        match_on=_MATCH_ON,
        ignore_localhost=True,
        before_record_request=lambda request: _clean_request(request, secrets()),
        before_record_response=lambda response: _clean_response(response, secrets()),
        serializer="readable",
        skip_patchers=("httpx", "httpx2"),
    )
    recorder.register_serializer("readable", _Readable(now))
    recorder.register_persister(_Utf8Files)
    return recorder


def _secrets() -> tuple[str, ...]:
    """Return the values of this process's keys, the longest first."""
    values = (value for name, value in os.environ.items() if _SECRET_VARIABLES.fullmatch(name))
    return tuple(sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True))


def _clean_request(request: Request, secrets: Sequence[str]) -> Request:
    request.uri = _clean_uri(request.uri, secrets)
    request.body = _clean_body(request.body or b"", secrets)
    headers = sorted((name.lower(), value) for name, value in request.headers.items())
    request.headers = {name: value for name, value in headers if name in _KEPT_HEADERS}
    return request


def _clean_response(response: dict[str, Any], secrets: Sequence[str]) -> dict[str, Any]:
    headers = {name.lower(): value for name, value in sorted(response["headers"].items())}
    kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS}
    before: bytes = response["body"]["string"]
    after = _clean_body(before, secrets)
    cleaned = {**response, "headers": kept, "body": {"string": after}}
    if "timing" in response and after != before:
        timing: Timing = response["timing"]
        if _json(before) is not None:  # written anew, and read whole by every client
            ends = [[_last(timing), len(after)]]
        else:
            # A secret that a piece's end cuts in two moves that end by some bytes, no more.
            ends = [
                [offset, min(len(after), len(_clean_body(before[: int(end)], secrets)))]
                for offset, end in timing["chunk_offsets"]
            ]
        cleaned["timing"] = Timing(first_byte_seconds=timing["first_byte_seconds"], chunk_offsets=ends)
    return cleaned


def _clean_uri(uri: str, secrets: Sequence[str]) -> str:
    parts = urlsplit(uri)
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    # Korean as Korean: only what has a meaning in a query is quoted.
    query = "&".join(
        "=".join(_QUOTED.sub(lambda match: quote(match[0], safe=""), _clean(part, secrets)) for part in pair)
        for pair in pairs
        if pair[0].lower() not in _SECRET_PARAMETERS
    )
    return urlunsplit((parts.scheme, parts.netloc, _clean(parts.path, secrets), query, ""))


def _clean_body(body: bytes, secrets: Sequence[str]) -> bytes:
    """Take the secrets out, and write JSON with one field a line, and lines that end in one character."""
    content = _json(body)
    if content is not None:
        text = json.dumps(_without_secrets(content), ensure_ascii=False, indent=2) + "\n"
    else:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            return body
        # YAML writes a text with carriage returns on one line; server-sent events may end theirs either way.
        text = text.replace("\r\n", "\n")
    return _clean(text, secrets).encode()


def _clean(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, _REDACTED)
    return _IDENTITIES.sub(_REDACTED, text)


def _without_secrets(content: Any) -> Any:
    if isinstance(content, dict):
        return {
            name: _REDACTED
            if isinstance(value, str) and value and name.lower() in _SECRET_FIELDS
            else _without_secrets(value)
            for name, value in content.items()
        }
    if isinstance(content, list):
        return [_without_secrets(value) for value in content]
    return content


def _json(body: bytes) -> Any:
    """Return what a JSON body holds, None where it is no object or list."""
    if not body.lstrip().startswith((b"{", b"[")):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # untyped
    """Writes a text of several lines as such, and a list of numbers on one."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    flat = bool(items) and all(isinstance(item, list) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=flat)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


class _Readable:
    """vcrpy's YAML, for readers, with the timing beside each interaction."""

    def __init__(self, now: str) -> None:
        self._now = now

    def serialize(self, cassette: dict[str, Any]) -> str:
        interactions = []
        for interaction in cassette["interactions"]:
            response = {**interaction["response"]}
            timing = response.pop("timing", None)
            interactions.append({**interaction, "response": response, **({"timing": timing} if timing else {})})
        content = {"version": cassette["version"], "recorded_at": self._now, "interactions": interactions}
        text: str = yaml.dump(content, Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=sys.maxsize)
        return text

    @staticmethod
    def deserialize(text: str) -> Any:
        cassette = yaml.load(text, Loader=_LOADER)  # noqa: S506 # a safe one
        for interaction in cassette["interactions"]:
            if "timing" in interaction:
                interaction["response"]["timing"] = interaction.pop("timing")
        return cassette


class _Utf8Files:
    """vcrpy's files, in UTF-8 on every machine."""

    @staticmethod
    def load_cassette(path: Path, serializer: Any) -> Any:
        if not path.is_file():
            return [], []
        return deserialize(path.read_text(encoding="utf-8"), serializer)

    @staticmethod
    def save_cassette(path: Path, cassette: dict[str, Any], serializer: Any) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(serialize(cassette, serializer), encoding="utf-8")
