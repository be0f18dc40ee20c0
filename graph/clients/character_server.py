"""A small character service for the demo and the tests: a gRPC server on the loopback."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc

from graph.clients.character import Character
from graph.clients.protos import character_pb2, character_pb2_grpc
from graph.clients.rows import contains_either

__all__ = ["CHARACTERS", "CharacterServer"]

CHARACTERS = (
    Character("페티", "무색페트병", "라벨을 떼고 찌그러뜨려 주면 새 옷으로 다시 태어나요!"),
    Character("페이피", "종이", "젖지 않게 모아 주면 새 공책이 되어 돌아올게요."),
    Character("캐니", "캔", "깨끗이 헹궈 주면 몇 번이고 다시 캔이 될 수 있어요."),
    Character("글래시", "유리병", "뚜껑을 빼고 넣어 주세요, 깨지지 않게 살살!"),
    Character("비니", "비닐", "흩날리지 않게 봉투에 모아 주세요."),
    Character("배리", "건전지", "나는 위험할 수 있으니 꼭 폐건전지 수거함에 넣어 주세요."),
)
# Everyday names of the materials. The first match wins.
_ALIASES = {
    "페트병": "무색페트병",
    "투명페트병": "무색페트병",
    "신문지": "종이",
    "골판지": "종이",
    "박스": "종이",
    "알루미늄": "캔",
    "유리": "유리병",
    "배터리": "건전지",
}


class CharacterServer:
    """Serves the characters on a free loopback port during the block."""

    def __enter__(self) -> Self:
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="character-server")
        self._server = grpc.server(self._threads, options=(("grpc.so_reuseport", 0),))
        character_pb2_grpc.add_CharacterServiceServicer_to_server(_Service(), self._server)
        self._port = self._server.add_insecure_port("127.0.0.1:0")
        self._server.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.stop(grace=None).wait()
        self._threads.shutdown()

    @property
    def address(self) -> str:
        """Host and port, for ``ECO2_CHARACTER_ADDRESS``."""
        return f"127.0.0.1:{self._port}"


class _Service(character_pb2_grpc.CharacterServiceServicer):
    def GetCharacter(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802 # the name in the interface
        names = [
            request.material,
            *(material for name, material in _ALIASES.items() if contains_either(name, request.material)),
        ]
        for name in names if request.material.strip() else ():
            for character in CHARACTERS:
                if contains_either(character.material, name):
                    return character_pb2.GetCharacterResponse(character=_message(character))
        context.abort(grpc.StatusCode.NOT_FOUND, "no character represents this material")
        raise AssertionError  # abort() raises

    def ListCharacters(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: ARG002, N802
        return character_pb2.ListCharactersResponse(characters=[_message(character) for character in CHARACTERS])


def _message(character: Character) -> Any:
    return character_pb2.Character(name=character.name, material=character.material, dialog=character.dialog)
