"""The character service, over gRPC: which of Eco2's characters stands for a kind of waste.

Interface: ``graph/clients/protos/character.proto``. Tried against this repository's own server
(``graph.clients.character_server``), a real one on loopback; not tried against one over TLS.
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
)
from graph.clients.protos import character_pb2, character_pb2_grpc

__all__ = ["Character", "Characters"]

T = TypeVar("T")

_SERVICE = "Character service"
_ADDRESS_SETTING = "ECO2_CHARACTER_ADDRESS"
_OPTIONS = (
    # The service stands beside this one; a proxy for the internet does not know it.
    ("grpc.enable_http_proxy", 0),
    # Otherwise a question waits out the back-off of another channel's failure.
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
    """One of Eco2's characters; ``material`` is the waste it stands for, ``dialog`` what it says of itself."""

    name: str
    material: str
    dialog: str


class Characters:
    """A client of the character service; usable from any event loop, and nothing of it needs to be closed.

    A channel lives as long as its question. It is a synchronous one, whose answers are handed to the event loop:
    an asynchronous channel belongs to the loop it was made on.

    Args:
        address: Host and port, as in ``character:50051``.
        timeout_seconds: How long one question may take.

    Raises:
        ServiceUnconfigured: If the address is none.
    """

    def __init__(self, *, address: str, timeout_seconds: float = environment.TIMEOUT_SECONDS) -> None:
        host, colon, port = address.rpartition(":")
        if not (host and colon and port.isdecimal() and port.isascii() and 0 < int(port) < 65536) or "/" in host:
            why = f"{_ADDRESS_SETTING} is {address!r}, wanted host:port such as localhost:50051; set it so."
            raise ServiceUnconfigured(_SERVICE, why)
        self._address = address
        self._timeout_seconds = timeout_seconds

    @classmethod
    def from_env(cls) -> Self:
        """Return a client by ``ECO2_CHARACTER_ADDRESS`` and ``ECO2_CLIENT_TIMEOUT_SECONDS``.

        Raises:
            ServiceUnconfigured: If the address is missing, or one of them is malformed.
        """
        return cls(
            address=environment.required(_SERVICE, _ADDRESS_SETTING, what="the service's host:port"),
            timeout_seconds=environment.timeout_seconds(_SERVICE),
        )

    async def character(self, material: str) -> Character | None:
        """Return the character that stands for a kind of waste, as people write it; ``None`` if none does.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
        """
        try:
            request = character_pb2.GetCharacterRequest(material=material)
        except (UnicodeError, ValueError) as error:
            why = "half a character of text came, wanted whole ones; ask with other words."
            raise ServiceRefused(_SERVICE, why) from error
        try:
            response = await self._ask(lambda stub: stub.GetCharacter, request)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise self._failure(error) from error
        return _read(response.character)

    async def all(self) -> tuple[Character, ...]:
        """Return every character.

        Raises:
            ServiceError: If the service cannot be used or answers something else.
        """
        try:
            response = await self._ask(lambda stub: stub.ListCharacters, character_pb2.ListCharactersRequest())
        except grpc.RpcError as error:
            raise self._failure(error) from error
        return tuple(_read(character) for character in response.characters)

    async def _ask(self, method: Callable[[Any], Any], request: Any) -> Any:
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not answered.done():
                answered.set_result(None)

        def hand_over(_: Any) -> None:
            # On a thread of gRPC's, and perhaps after the question was given up with its loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle)

        with grpc.insecure_channel(self._address, options=_OPTIONS) as channel:
            stub = character_pb2_grpc.CharacterServiceStub(channel)
            call = method(stub).future(request, timeout=self._timeout_seconds)
            call.add_done_callback(hand_over)
            try:
                await answered
            finally:
                call.cancel()
            return call.result()

    def _failure(self, error: grpc.RpcError) -> ServiceError:
        code, details = error.code(), (error.details() or "")[:200]
        came = f"{code.name} ({details!r}) came"
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            why = (
                f"no answer came, wanted one within {self._timeout_seconds:g} s; "
                "try again later or raise ECO2_CLIENT_TIMEOUT_SECONDS."
            )
            return ServiceUnavailable(_SERVICE, why)
        if code in _REFUSALS:
            return ServiceRefused(_SERVICE, f"{came}, wanted OK; see whether what was asked for is right.")
        # A server of something else; and what gRPC itself says of bytes that are no such message.
        if code is grpc.StatusCode.UNIMPLEMENTED or "deserializing" in details:
            why = f"{came}, wanted eco2.character.v1.CharacterService; see whether {_ADDRESS_SETTING} is right."
            return ServiceAnswerError(_SERVICE, why)
        why = f"{came}, wanted OK; try again later or see whether {_ADDRESS_SETTING} is right."
        return ServiceUnavailable(_SERVICE, why)


def _read(character: Any) -> Character:
    if not character.name:
        why = f"a character without a name came, wanted one with; see whether {_ADDRESS_SETTING} is right."
        raise ServiceAnswerError(_SERVICE, why)
    return Character(name=character.name, material=character.material, dialog=character.dialog)
