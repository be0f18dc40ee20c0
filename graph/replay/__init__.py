"""Records HTTP into cassettes and replays it at the recorded pace, without keys and without a network.

vcrpy stores the cassettes: filters, matching and YAML. It has no timing and returns each body in one piece. This
package therefore patches the transports of httpx and httpx2 itself; the provider SDKs and the clients use both.
vcrpy patches every other HTTP library, so their requests are refused too. Requests to the loopback pass through.
Some requests contain the time of day. A recording and its replays use one fixed time, ``ECO2_NOW``.
"""

from __future__ import annotations

from graph.replay.clock import ReplayClock, ReplayLoop
from graph.replay.environment import DUMMY_KEY, KEYS, REPLAY_SETTINGS, clean_environment, provider_environment
from graph.replay.errors import CassetteError, UnknownRequestError
from graph.replay.files import join_cassettes, recorded_seconds
from graph.replay.playback import Playback, replay
from graph.replay.recording import record

__all__ = [
    "DUMMY_KEY",
    "KEYS",
    "REPLAY_SETTINGS",
    "CassetteError",
    "Playback",
    "ReplayClock",
    "ReplayLoop",
    "UnknownRequestError",
    "clean_environment",
    "join_cassettes",
    "provider_environment",
    "record",
    "recorded_seconds",
    "replay",
]
