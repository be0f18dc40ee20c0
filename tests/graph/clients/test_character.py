"""The character service: a gRPC server, the client, and the generated modules."""

from __future__ import annotations

import asyncio
import filecmp
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import graph
from graph.clients import (
    Character,
    Characters,
    CharacterServer,
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from graph.clients.character_server import CHARACTERS
from tests.support.examples import examples
from tests.support.langsmith_server import refused_url

ROOT = Path(graph.__file__).parent.parent
PROTOS = Path("graph", "clients", "protos")


@pytest.fixture(scope="module")
def server() -> Iterator[CharacterServer]:
    with CharacterServer() as server:
        yield server


@pytest.mark.parametrize("material", ["무색페트병", "페트병", "투명 페트병", "다 쓴 페트병"])
async def test_the_character_of_a_material_is_found(server: CharacterServer, material: str) -> None:
    """The material may have its interface name or an everyday name."""
    character = await Characters(address=server.address, timeout_seconds=60).character(material)

    assert character == CHARACTERS[0]


@pytest.mark.parametrize("material", ["플루토늄", "", " "])
async def test_a_material_without_a_character_has_none(server: CharacterServer, material: str) -> None:
    """NOT_FOUND is no error."""
    assert await Characters(address=server.address, timeout_seconds=60).character(material) is None


async def test_all_characters_are_listed(server: CharacterServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client configured by the environment returns all characters."""
    monkeypatch.setenv("ECO2_CHARACTER_ADDRESS", server.address)

    assert await Characters.from_env().all() == CHARACTERS


@contextmanager
def serve_answer(behaviour: Callable[[Any, grpc.ServicerContext], Any]) -> Iterator[str]:
    """Run a server with one behaviour for all methods, in bytes, and yield its address."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(behaviour)

    with ThreadPoolExecutor(2) as threads:
        server = grpc.server(threads, handlers=[Handler()])
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            yield f"127.0.0.1:{port}"
        finally:
            server.stop(None).wait()


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ServiceRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ServiceRefused),
        (grpc.StatusCode.INTERNAL, ServiceUnavailable),
        (grpc.StatusCode.UNAVAILABLE, ServiceUnavailable),
        (grpc.StatusCode.UNIMPLEMENTED, ServiceAnswerError),
    ],
    ids=lambda value: value.name if isinstance(value, grpc.StatusCode) else "",
)
async def test_each_status_has_its_error_class(code: grpc.StatusCode, kind: type[ServiceError]) -> None:
    """The error contains the status and the server's message."""
    with serve_answer(lambda request, context: context.abort(code, "for a reason")) as address:
        for call in (
            Characters(address=address, timeout_seconds=60).all(),
            Characters(address=address).character("캔"),
        ):
            with pytest.raises(kind, match=f"^Character service: got {code.name} .*'for a reason'.*, wanted "):
                await call


async def test_a_slow_server_times_out() -> None:
    """The call ends within the time limit."""
    released = threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        released.wait(60)
        return b""

    with serve_answer(wait) as address:
        with pytest.raises(ServiceUnavailable, match=r"got no answer, wanted one within 0\.2 s"):
            await Characters(address=address, timeout_seconds=0.2).all()
        released.set()


async def test_a_refused_connection_is_unavailable() -> None:
    """A refused connection is UNAVAILABLE."""
    with refused_url() as url, pytest.raises(ServiceUnavailable, match="UNAVAILABLE"):
        await Characters(address=url.removeprefix("http://"), timeout_seconds=60).all()


@pytest.mark.parametrize("answer", [b"\xff\xff\xff", b""], ids=["no_message", "no_name"])
async def test_an_invalid_answer_is_an_error(answer: bytes) -> None:
    """Invalid bytes and a message without a name are errors."""
    with serve_answer(lambda request, context: answer) as address, pytest.raises(ServiceAnswerError):
        await Characters(address=address, timeout_seconds=60).character("캔")


def test_no_answer_raises_any_other_error() -> None:
    """For any bytes, the result is a character or a ``ServiceError``."""
    answers: list[bytes] = []

    with serve_answer(lambda request, context: answers[-1]) as address:

        @settings(max_examples=examples(50), deadline=None, suppress_health_check=list(HealthCheck))
        @given(st.binary(max_size=40), st.text(max_size=5))
        def anything(answer: bytes, material: str) -> None:
            answers.append(answer)
            try:
                character = asyncio.run(Characters(address=address, timeout_seconds=60).character(material))
            except ServiceError:
                return
            assert isinstance(character, Character)

        anything()


async def test_half_a_character_of_text_is_refused(server: CharacterServer) -> None:
    """A model may emit half a character, which cannot be encoded."""
    with pytest.raises(ServiceRefused, match="got text with half a character"):
        await Characters(address=server.address, timeout_seconds=60).character("\ud83d")


@pytest.mark.parametrize("address", ["localhost", ":50051", "localhost:0", "localhost:99999", "http://x:1", "x:port"])
def test_a_malformed_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    """The error contains the value and the wanted form."""
    monkeypatch.setenv("ECO2_CHARACTER_ADDRESS", address)

    with pytest.raises(ServiceUnconfigured, match=r"ECO2_CHARACTER_ADDRESS is .* wanted host:port"):
        Characters.from_env()


def test_a_missing_address_is_one_clear_sentence() -> None:
    """The error names the variable."""
    with pytest.raises(ServiceUnconfigured, match=r"ECO2_CHARACTER_ADDRESS is not set, wanted .*; set it\.$"):
        Characters.from_env()


def test_one_client_serves_several_event_loops(server: CharacterServer) -> None:
    """Several threads can use one client at the same time."""
    client = Characters(address=server.address, timeout_seconds=60)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: asyncio.run(client.all()), range(8)))

    assert found == [CHARACTERS] * 8


async def test_a_cancelled_call_ends() -> None:
    """A cancelled call is cancelled on the server too."""
    started, cancelled = threading.Event(), threading.Event()

    def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
        context.add_callback(cancelled.set)
        started.set()
        cancelled.wait(60)
        return b""

    with serve_answer(wait) as address:
        call = asyncio.create_task(Characters(address=address, timeout_seconds=60).all())
        assert await asyncio.to_thread(started.wait, 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await asyncio.to_thread(cancelled.wait, 60)


def test_no_thread_outlives_its_call(server: CharacterServer) -> None:
    """A call leaves no thread of gRPC or of the client behind."""
    before = threading.active_count()
    for _ in range(5):
        asyncio.run(Characters(address=server.address, timeout_seconds=60).all())

    assert threading.active_count() <= before + 4  # the server's threads, some of them started by the first calls


def test_the_generated_modules_are_up_to_date(tmp_path: Path) -> None:
    """The command in character.proto generates the committed modules."""
    proto = ROOT / PROTOS / "character.proto"
    (line,) = [line for line in proto.read_text().splitlines() if "grpc_tools.protoc" in line]
    (arguments,) = [line.partition("grpc_tools.protoc")[2].split()]
    here = [argument.replace("_out=.", f"_out={tmp_path}") for argument in arguments]

    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *here], cwd=ROOT, check=True, timeout=300)

    made = sorted(path.name for path in (tmp_path / PROTOS).iterdir())
    assert made == ["character_pb2.py", "character_pb2.pyi", "character_pb2_grpc.py"]
    assert filecmp.cmpfiles(tmp_path / PROTOS, ROOT / PROTOS, made, shallow=False) == (made, [], [])
