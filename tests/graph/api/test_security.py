"""Who may ask, whose job it is, how much a tenant may ask, and what a connection may do."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

from graph.api import ApiSettings, make_authenticator
from graph.api.body_limit import BodyLimit
from graph.api.problems import ProblemError
from graph.api.routes import read_events
from graph.errors import GraphConfigError
from graph.jobs import MAX_BODY_BYTES
from graph.serving.http import BoundedProtocol
from graph.streams import START, Position, StreamEvent
from tests.support import fake_runtime
from tests.support.api_server import ApiServer, api_server

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ISSUER, AUDIENCE = "https://id.example", "eco2"


async def hang(state: fake_runtime.State) -> fake_runtime.State:
    await asyncio.Event().wait()
    return {}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def token_file(tmp_path: Path, **tokens: tuple[str, str]) -> ApiSettings:
    """Return settings that accept these tokens, each with its tenant and user."""
    lines = []
    for secret, (tenant, user) in tokens.items():
        digest = hashlib.sha256(secret.encode()).hexdigest()
        lines.append(f'[[token]]\nsha256 = "{digest}"\ntenant_id = "{tenant}"\nuser_id = "{user}"')
    path = tmp_path / "tokens.toml"
    path.write_text("\n".join(lines))
    return ApiSettings(tokens_file=path)


@contextmanager
def jwks_server(body: bytes | None = None) -> Iterator[str]:
    """Serve the public key, or this body, during the block, and yield its address."""
    jwk = {**json.loads(RSAAlgorithm.to_jwk(KEY.public_key())), "kid": "1", "use": "sig", "alg": "RS256"}

    content = json.dumps({"keys": [jwk]}).encode() if body is None else body

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks"
        server.shutdown()
        thread.join()


def token(*, key: Any = KEY, algorithm: str = "RS256", **claims: Any) -> str:
    now = int(time.time())
    content = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u-1", "tenant_id": "acme", "exp": now + 600} | claims
    return jwt.encode(
        {name: value for name, value in content.items() if value is not None},
        key,
        algorithm=algorithm,
        headers={"kid": "1"},
    )


async def test_a_question_needs_a_token(tmp_path: Path) -> None:
    """Without one and with a wrong one: 401, with the scheme; with a right one: 202."""
    async with api_server(tmp_path, token_file(tmp_path, alice=("acme", "alice"))) as server:
        without = await server.client.post("/api/v1/chat", json={"message": "안녕!"})
        wrong = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=bearer("mallory"))
        invalid = await server.client.post("/api/v1/chat", content=b"no JSON")
        job_id = await server.ask(headers=bearer("alice"))
        state = await server.store.state(job_id)

    for answer in (without, wrong, invalid):
        assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (state.tenant_id, state.user_id) == ("acme", "alice")


@pytest.mark.parametrize("stranger", ["bob", "carol"])
async def test_a_job_belongs_to_who_asked(tmp_path: Path, stranger: str) -> None:
    """Another user of the tenant and another tenant find no such job, in every operation."""
    settings = token_file(tmp_path, alice=("acme", "alice"), bob=("acme", "bob"), carol=("other", "alice"))
    async with api_server(tmp_path, settings) as server:
        job_id = await server.ask(headers=bearer("alice"))
        url, headers = f"/api/v1/chat/{job_id}", bearer(stranger)
        answers = [
            await server.client.get(url, headers=headers),
            await server.client.get(f"{url}/events", headers=headers),
            await server.client.delete(url, headers=headers),
            await server.client.post(f"{url}/feedback", json={"score": 1}, headers=headers),
        ]
        own = await server.until_ended(job_id, headers=bearer("alice"))

    assert [answer.status_code for answer in answers] == [404] * 4
    assert own["status"] == "done"


async def test_a_jwt_names_tenant_and_user(tmp_path: Path) -> None:
    """The tenant is the claim of the settings, the user the subject."""
    with jwks_server() as url:
        settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=url, jwt_tenant_claim="org")
        async with api_server(tmp_path, settings) as server:
            job_id = await server.ask(headers=bearer(token(org="acme", tenant_id=None)))
            state = await server.store.state(job_id)

    assert (state.tenant_id, state.user_id) == ("acme", "u-1")


@pytest.mark.parametrize("sub", ["auth0|5f7c8ec7", "-Fq_0aE3", "user+tag@example.org", "c3ViamVjdA==", "a" * 255])
async def test_users_have_the_names_of_their_identity_provider(tmp_path: Path, sub: str) -> None:
    """The question of a user of Auth0 or Entra is answered, and the job is the user's."""
    with jwks_server() as url:
        settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=url)
        async with api_server(tmp_path, settings) as server:
            headers = bearer(token(sub=sub))
            job_id = await server.ask(headers=headers)
            answer = await server.until_ended(job_id, headers=headers)
            state = await server.store.state(job_id)

    assert (answer["status"], state.user_id) == ("done", sub)


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"iss": "https://evil.example"}, id="issuer"),
        pytest.param({"aud": "other"}, id="audience"),
        pytest.param({"exp": 1_000_000_000}, id="expired"),
        pytest.param({"exp": None}, id="without_expiry"),
        pytest.param({"sub": None}, id="without_user"),
        pytest.param({"sub": "a/b"}, id="user_with_the_separator_of_threads"),
        pytest.param({"sub": "a" * 256}, id="user_too_long"),
        pytest.param({"tenant_id": None}, id="without_tenant"),
        pytest.param({"tenant_id": "a\nb"}, id="tenant_with_newline"),
        pytest.param({"tenant_id": {"a": 1}}, id="tenant_of_another_type"),
        pytest.param({"key": OTHER_KEY}, id="another_key"),
        pytest.param({"key": "secret" * 10, "algorithm": "HS256"}, id="symmetric"),
        pytest.param({"key": None, "algorithm": "none"}, id="unsigned"),
    ],
)
async def test_a_wrong_jwt_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """401, whatever is wrong with it, without saying what."""
    with jwks_server() as url:
        settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=url)
        async with api_server(tmp_path, settings) as server:
            answer = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=bearer(token(**wrong)))

    assert answer.status_code == 401


async def test_without_the_keys_of_jwts_the_api_says_503(tmp_path: Path) -> None:
    """The token may be right: the client shall come back."""
    settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url="http://127.0.0.1:1/jwks")
    async with api_server(tmp_path, settings) as server:
        answer = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=bearer(token()))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


@pytest.mark.parametrize("body", [b"<html>Maintenance</html>", b'{"keys": []}'], ids=["no_json", "no_keys"])
async def test_an_answer_without_keys_is_no_fault_of_the_token(tmp_path: Path, body: bytes) -> None:
    """The identity provider sends a page of its own: 503, and the client shall come back."""
    with jwks_server(body) as url:
        settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url=url)
        async with api_server(tmp_path, settings) as server:
            answer = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=bearer(token()))

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")


def test_an_address_of_keys_that_is_none_is_one_sentence() -> None:
    """The server does not start with it."""
    settings = ApiSettings(jwt_issuer=ISSUER, jwt_audience=AUDIENCE, jwt_jwks_url="id.example/jwks")

    with pytest.raises(GraphConfigError, match=r"ECO2_JWT_JWKS_URL is 'id.example/jwks', wanted 'https://"):
        make_authenticator(settings)


@pytest.mark.parametrize(
    "content", ["", "[[token]]", '[[token]]\nsha256 = "x"\ntenant_id = "a"', "no toml", '[[token]]\nextra = "1"']
)
def test_an_unreadable_token_file_is_one_sentence(tmp_path: Path, content: str) -> None:
    """The server does not start without the tokens that it was given."""
    path = tmp_path / "tokens.toml"
    path.write_text(content)

    with pytest.raises(GraphConfigError, match=r"ECO2_API_TOKENS_FILE .* cannot be read .* correct it\."):
        make_authenticator(ApiSettings(tokens_file=path))


async def test_a_tenant_asks_so_many_questions_a_minute(tmp_path: Path) -> None:
    """The one above the limit gets 429 with a time; another tenant is not held up."""
    settings = token_file(tmp_path, alice=("acme", "alice"), bob=("other", "bob"))
    settings = ApiSettings(tokens_file=settings.tokens_file, requests_per_minute=3)
    async with api_server(tmp_path, settings) as server:
        for _ in range(3):
            await server.ask(headers=bearer("alice"))
        refused = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=bearer("alice"))
        await server.ask(headers=bearer("bob"))

    assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
    assert 1 <= int(refused.headers["retry-after"]) <= 60


async def test_a_tenant_has_so_many_unanswered_questions(tmp_path: Path) -> None:
    """The one above the limit gets 429, and a cancelled one makes room."""
    async with api_server(tmp_path, ApiSettings(max_active_jobs=2), router=hang) as server:
        first = await server.ask()
        await server.ask()
        refused = await server.client.post("/api/v1/chat", json={"message": "안녕!"})
        await server.client.delete(f"/api/v1/chat/{first}")
        await server.until_ended(first)
        await server.ask()

    assert refused.status_code == 429


async def test_a_tenant_has_so_many_open_streams(tmp_path: Path) -> None:
    """The one above the limit gets 429; a closed one makes room."""
    async with api_server(tmp_path, ApiSettings(max_streams=2), router=hang) as server:
        job_id = await server.ask()
        open_streams = [asyncio.create_task(server.events(job_id)) for _ in range(2)]
        url = f"/api/v1/chat/{job_id}/events"
        refused = await _until_status(server, url, 429)
        open_streams[0].cancel()
        await asyncio.gather(open_streams[0], return_exceptions=True)
        allowed = await _until_status(server, url, 200)
        open_streams[1].cancel()
        await asyncio.gather(*open_streams, return_exceptions=True)

    assert (refused, allowed) == (429, 200)


async def test_a_burst_of_streams_is_counted_as_a_whole(tmp_path: Path) -> None:
    """Of thirty that are opened at the same moment so many open as a tenant may have, and their ends make room."""
    left = asyncio.Event()
    statuses: list[int] = []

    async def receive() -> dict[str, Any]:
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async with api_server(tmp_path, ApiSettings(max_streams=5), router=hang) as server:
        job = await server.store.state(await server.ask())

        async def read() -> None:
            response = await read_events(server.context, job)
            try:
                await response({"type": "http", "method": "GET"}, receive, send)
            except ProblemError as problem:
                statuses.append(problem.status)

        readers = [asyncio.create_task(read()) for _ in range(30)]
        while len(statuses) < 30:
            await asyncio.sleep(0.01)
        left.set()
        await asyncio.gather(*readers)
        allowed = await _until_status(server, f"/api/v1/chat/{job.job_id}/events", 200)

    assert (statuses.count(200), statuses.count(429), allowed) == (5, 25, 200)


async def test_a_reader_that_leaves_ends_its_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the job says nothing, no reader that has gone holds a connection to the store."""
    begun, ended, next_event = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def read(job_id: str, after: Position, *, wait_seconds: float) -> list[StreamEvent]:
        if after == START:
            return [StreamEvent(Position(0, 1), "queued")]
        begun.set()
        try:
            await next_event.wait()
        finally:
            ended.set()
        return []

    async with api_server(tmp_path, router=hang) as server:
        job_id = await server.ask()
        monkeypatch.setattr(server.store, "read", read)
        async with server.client.stream("GET", f"/api/v1/chat/{job_id}/events"):
            await begun.wait()
        async with asyncio.timeout(60):
            await ended.wait()

    assert not next_event.is_set()


async def _until_status(server: ApiServer, url: str, status: int) -> int:
    while True:
        async with server.client.stream("GET", url) as answer:
            if answer.status_code == status:
                return status
        await asyncio.sleep(0.02)


async def test_a_body_is_bounded(tmp_path: Path) -> None:
    """50 MB are refused by their length, and while they come where the length is unknown."""
    async with api_server(tmp_path) as server:

        async def chunks() -> Any:
            for _ in range(50):
                yield b"x" * 1_000_000

        declared = await server.client.post("/api/v1/chat", content=b"x" * (MAX_BODY_BYTES + 1))
        streamed = await server.client.post("/api/v1/chat", content=chunks())
        await server.ask()

    for answer in (declared, streamed):
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")


async def test_nothing_of_a_stranger_s_body_is_awaited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """401 comes by the headers alone, and 413 to those who may ask."""
    monkeypatch.setattr("graph.api.body_limit._DISCARD_SECONDS", 0.05)
    settings = token_file(tmp_path, alice=("acme", "alice"))
    head = b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 50000000\r\n"
    lines = []
    async with api_server(tmp_path, settings) as server:
        for credential in (b"", b"Authorization: Bearer alice\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
            writer.write(head + credential + b"\r\n")
            lines.append(await reader.readline())
            writer.close()

    assert [line.split()[1] for line in lines] == [b"401", b"413"]


class LargeBodies:
    """Requests to a bounded app that answers none until it is released; counts the bodies that were begun."""

    def __init__(self, *, max_large: int, max_seconds: float = 60.0) -> None:
        self.begun = self.served = 0
        self.released = asyncio.Event()
        self.statuses: list[int] = []
        self._limit = BodyLimit(
            self._app, authenticate=self._authenticate, max_bytes=100_000, max_large=max_large, max_seconds=max_seconds
        )

    async def _authenticate(self, request: Any) -> None:
        pass

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.served += 1
        await self.released.wait()

    async def send(self, *headers: tuple[bytes, bytes]) -> None:
        async def receive() -> dict[str, Any]:
            self.begun += 1
            return {"type": "http.request", "body": b"x" * 10, "more_body": False}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.append(message["status"])

        await self._limit({"type": "http", "method": "POST", "headers": list(headers)}, receive, send)


@pytest.mark.parametrize("large", [(b"content-length", b"64001"), (b"transfer-encoding", b"chunked")])
async def test_large_bodies_at_once_are_bounded(large: tuple[bytes, bytes]) -> None:
    """Of five that come at once two are read, while a small one is served; the others follow when there is room."""
    bodies = LargeBodies(max_large=2)
    requests = [asyncio.create_task(bodies.send(large)) for _ in range(5)]
    requests.append(asyncio.create_task(bodies.send((b"content-length", b"64000"))))
    while bodies.served < 3:
        await asyncio.sleep(0)
    for _ in range(100):  # time for a third one to begin
        await asyncio.sleep(0)
    begun = bodies.begun

    bodies.released.set()
    await asyncio.gather(*requests)

    assert (begun, bodies.served, bodies.statuses) == (3, 6, [])


async def test_a_large_body_waits_for_its_turn_so_long() -> None:
    """503 then, and the one before it is served."""
    bodies = LargeBodies(max_large=1, max_seconds=0.05)
    first = asyncio.create_task(bodies.send((b"content-length", b"70000")))
    while not bodies.served:
        await asyncio.sleep(0)
    await bodies.send((b"content-length", b"70000"))
    bodies.released.set()
    await first

    assert (bodies.statuses, bodies.served) == ([503], 1)


async def test_other_origins_get_no_access(tmp_path: Path) -> None:
    """No answer allows another origin."""
    async with api_server(tmp_path) as server:
        origin = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
        preflight = await server.client.options("/api/v1/chat", headers=origin)
        asked = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=origin)

    for answer in (preflight, asked):
        assert not [name for name in answer.headers if name.startswith("access-control-")]


@pytest.mark.parametrize("sent", [b"", b"POST /api/v1/chat HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half_a_head"])
async def test_a_connection_without_a_request_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """Within its time, while others are served."""
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 0.2)
    async with api_server(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(sent)
        assert await reader.read() == b""
        writer.close()
        await server.ask()


async def test_a_second_request_has_its_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was served once may not dribble its next request's headers for ever."""
    monkeypatch.setattr(BoundedProtocol, "header_seconds", 0.5)
    async with api_server(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rpartition(":")[2]))
        writer.write(b"GET /elsewhere HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readline()).startswith(b"HTTP/1.1 404")
        while not reader.at_eof():
            writer.write(b"G")
            await asyncio.sleep(0.05)
            try:
                async with asyncio.timeout(0.05):
                    await reader.read(10_000)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        writer.close()


async def test_connections_are_bounded(tmp_path: Path) -> None:
    """Those beyond the bound are closed at once, and the server goes on when there is room."""
    async with api_server(tmp_path, max_connections=5) as server:
        port = int(server.url.rpartition(":")[2])
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        for _, other in (*opened, (reader, writer)):
            other.close()
        while True:
            try:
                await server.ask()
                break
            except Exception:
                await asyncio.sleep(0.05)
