"""Replays a cassette: answers every request from the file."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from vcr.request import Request

from graph.replay.clock import ReplayClock
from graph.replay.environment import DUMMY_KEY, KEYS, provider_environment
from graph.replay.errors import CassetteError, UnknownRequestError
from graph.replay.files import cassette_recorder, recorded_at
from graph.replay.matching import describe_refusal
from graph.replay.pacing import ClockPace, Pace, PacedBody, RealPace
from graph.replay.transports import recorded_request, restore_body, transports_handled_by

__all__ = ["Playback", "replay"]


@contextmanager
def replay(
    path: Path, *, speed: float | None = None, clock: ReplayClock | None = None, repeats: bool = False
) -> Iterator[Playback]:
    """Answer all HTTP from the cassette during the block, and refuse requests that it does not contain.

    Keys, settings and endpoints of the shell have no effect.

    Args:
        path: The cassette.
        speed: 1 replays in real time, 10 ten times as fast; None does not wait.
        clock: Waits on this clock instead, at its speed, within its :class:`ReplayLoop`.
        repeats: Answer a request any number of times, for a server; a refused request then fails by itself only.

    Raises:
        CassetteError: If the file does not exist.
        UnknownRequestError: If a request was refused, even if the block's code handled that error.
    """
    if speed is not None and not speed > 0:
        raise ValueError(f"speed is {speed!r}, wanted a number above 0, or None to replay without waiting")
    if not path.is_file():
        raise CassetteError(f"No cassette at {path}. Record it: python -m tests.support.record_cassettes")
    begin: Callable[[], Pace] = partial(RealPace, speed) if clock is None else partial(ClockPace, clock)
    with (
        provider_environment(ECO2_NOW=recorded_at(path), **dict.fromkeys(KEYS, DUMMY_KEY)),
        cassette_recorder(lambda: (DUMMY_KEY,)).use_cassette(
            path, record_mode="none", allow_playback_repeats=repeats
        ) as cassette,
        transports_handled_by(playback := Playback(path, cassette, begin)),
    ):
        try:
            yield playback
        except UnknownRequestError:
            raise
        except Exception as error:
            if playback.refused and not repeats:
                raise UnknownRequestError(path, playback.refused) from error
            raise
        if not repeats:
            playback.check()


class Playback:
    """A cassette during its replay. ``refused`` describes the requests without an answer."""

    def __init__(self, path: Path, cassette: Any, begin: Callable[[], Pace]) -> None:
        self._path, self._cassette, self._begin = path, cassette, begin
        self._lock = threading.Lock()
        self.refused: list[str] = []

    @property
    def unused(self) -> list[str]:
        """The recorded requests that were not made."""
        requests = self._cassette.requests
        return [str(request) for index, request in enumerate(requests) if not self._cassette.play_counts[index]]

    def answer(self, request: Request) -> dict[str, Any]:
        """Return the next recorded answer to this request. Concurrent equal requests get different answers."""
        with self._lock:  # held for the look-up only, not while an answer is paced
            if self._cassette.can_play_response_for(request):
                answer: dict[str, Any] = self._cassette.play_response(request)
                return answer
        self.refused.append(describe_refusal(self._cassette, request))
        raise UnknownRequestError(self._path, self.refused)

    def check(self) -> None:
        """Raise UnknownRequestError if a request was refused."""
        if self.refused:
            raise UnknownRequestError(self._path, self.refused)

    def handle(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Replace ``handle_request`` of a library's transport."""
        pace = self._begin()
        incoming = recorded_request(request, b"".join(request.stream))
        if self._cassette.filter_request(incoming) is None:
            return send(transport, restore_body(library, request, incoming.body))
        answer = self.answer(incoming)
        body = PacedBody(answer, pace)
        pace.reach_blocking(body.first_byte_seconds)
        return _response(library, answer, body)

    async def handle_async(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Replace ``handle_async_request`` of a library's transport."""
        pace = self._begin()
        incoming = recorded_request(request, b"".join([part async for part in request.stream]))
        if self._cassette.filter_request(incoming) is None:
            return await send(transport, restore_body(library, request, incoming.body))
        answer = self.answer(incoming)
        body = PacedBody(answer, pace)
        await pace.reach(body.first_byte_seconds)
        return _response(library, answer, body)


def _response(library: ModuleType, answer: Mapping[str, Any], body: PacedBody) -> Any:
    headers = [(name, value) for name, values in answer["headers"].items() for value in values]
    return library.Response(answer["status"]["code"], headers=headers, stream=body)
