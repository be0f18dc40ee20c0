"""Client for the character service, over gRPC: Eco2's characters and the waste they represent.

Interface: ``graph/clients/protos/character.proto``. Tested against this repository's gRPC server on the loopback
(``graph.clients.character_server``); not tested over TLS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self, TypeVar

import grpc

from graph.clients import environment
from graph.clients.errors import (
    ServiceAnswerError,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
    WrongArguments,
)
from graph.clients.protos import character_pb2, character_pb2_grpc

__all__ = ["Character", "Characters"]

T = TypeVar("T")

_SERVICE = "Character service"
_ADDRESS_SETTING = "ECO2_CHARACTER_ADDRESS"
_OPTIONS = (
    # The service is internal; an internet proxy cannot reach it.
    ("grpc.enable_http_proxy", 0),
    # Otherwise a call waits for the back-off after another channel's failure.
    ("grpc.use_local_subchannel_pool", 1),
)
_REFUSALS = frozenset(
    {
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNAUTHENTICATED,
    }
)


@dataclass(frozen=True, slots=True)
class Character:
    """One of Eco2's characters. ``material`` is the waste it represents, ``dialog`` its introduction."""

    name: str
    material: str
    dialog: str


class Characters:
    """Client for the character service. It works in any event loop and needs no closing.

    Each call opens a channel. The channel is synchronous and passes its answer to the event loop, because an
    asynchronous channel belongs to the loop that created it.

    Args:
        address: Host and port, for example ``character:50051``.
        timeout_seconds: The limit for one call.

    Raises:
        ServiceUnconfigured: If the address is malformed.
    """

    def __init__(self, *, address: str, timeout_seconds: float = environment.TIMEOUT_SECONDS) -> None:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal() and port.isascii() and 0 < int(port) < 65536) or "/" in host:
            why = f"{_ADDRESS_SETTING} is {address!r}, wanted host:port such as localhost:50051; correct it."
            raise ServiceUnconfigured(_SERVICE, why)
        self._address = address
        self._timeout_seconds = timeout_seconds

    @classmethod
    def from_env(cls) -> Self:
        """Return a client configured by ``ECO2_CHARACTER_ADDRESS`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If a setting is missing or malformed.
        """
        return cls(
            address=environment.required(_SERVICE, _ADDRESS_SETTING, what="the service's host:port"),
            timeout_seconds=environment.timeout_seconds(_SERVICE),
        )

    async def character(self, material: str) -> Character | None:
        """Return the character that represents a kind of waste; ``None`` if there is none. Everyday names work too.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        try:
            request = character_pb2.GetCharacterRequest(material=material)
        except (UnicodeError, ValueError) as error:
            why = "got text with half a character (a lone surrogate), wanted valid text; change the text."
            raise WrongArguments(_SERVICE, why) from error
        try:
            response = await self._call(lambda stub: stub.GetCharacter, request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise self._failure(error) from error
        return _read(response.character)

    async def all(self) -> tuple[Character, ...]:
        """Return every character.

        Raises:
            ServiceError: If the service fails or its answer is not as documented.
        """
        try:
            response = await self._call(lambda stub: stub.ListCharacters, character_pb2.ListCharactersRequest())
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return tuple(_read(character) for character in response.characters)

    async def _call(self, method: Callable[[Any], Any], request: Any) -> Any:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def notify(_: Any) -> None:
            # Runs on a gRPC thread, perhaps after the call was cancelled and its loop closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle)

        with grpc.insecure_channel(self._address, options=_OPTIONS) as channel:
            stub = character_pb2_grpc.CharacterServiceStub(channel)
            call = method(stub).future(request, timeout=self._timeout_seconds)
            call.add_done_callback(notify)
            try:
                await done
            finally:
                call.cancel()
            return call.result()

    def _failure(self, error: grpc.RpcError) -> ServiceError:
        code, details = error.code(), (error.details() or "")[:200]
        got = f"got {code.name} ({details!r})"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            why = (
                f"got no answer, wanted one within {self._timeout_seconds:g} s; "
                "try again later or raise ECO2_CLIENT_TIMEOUT_SECONDS."
            )
            return ServiceUnavailable(_SERVICE, why)
        if code in _REFUSALS:
            return ServiceRefused(_SERVICE, f"{got}, wanted OK; check the request.")
        # Another kind of server answered, or gRPC could not parse the message.
        if code is grpc.StatusCode.UNIMPLEMENTED or "deserializing" in details:
            why = f"{got}, wanted eco2.character.v1.CharacterService; check {_ADDRESS_SETTING}."
            return ServiceAnswerError(_SERVICE, why)
        why = f"{got}, wanted OK; try again later or check {_ADDRESS_SETTING}."
        return ServiceUnavailable(_SERVICE, why)


def _read(character: Any) -> Character:
    if not character.name:
        why = f"got a character without a name, wanted one with a name; check {_ADDRESS_SETTING}."
        raise ServiceAnswerError(_SERVICE, why)
    return Character(name=character.name, material=character.material, dialog=character.dialog)
