"""Records all cassettes from the stand-ins. Arguments limit it to the demos of these intents."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from graph import build_graph
from graph.cli import QUESTIONS
from graph.replay import KEYS, clean_environment, record
from graph.runtime import CASSETTES, character_service
from graph.state import turn
from tests.support import call_paths, scripts
from tests.support.provider_standin import LIFELIKE, StandIn
from tests.support.service_standins import Services

__all__ = ["main", "record_demo", "upstream"]

_FOLDERS = {"openai": CASSETTES, "google": CASSETTES / "google"}
_TESTS = Path(__file__).parents[1] / "graph"
_SERVICES = ("dapi.kakao.com", "apis.data.go.kr", "api.data.go.kr")


@contextmanager
def upstream() -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Start the stand-ins, and yield the base URL for each host and the keys of the services."""
    with StandIn((*call_paths.SCRIPT, *scripts.SCRIPT), pace=LIFELIKE) as providers, Services() as services:
        keys = {name: value for name, value in services.environment().items() if name in KEYS}
        yield {**providers.upstream, **dict.fromkeys(_SERVICES, services.url)}, keys


def record_demo(intents: Sequence[str]) -> None:
    """Record the demo's conversations with both providers."""
    for provider, folder in _FOLDERS.items():
        # All conversations share one stand-in, so each one finds the prompts of the earlier ones in the cache.
        with upstream() as (hosts, keys):
            for intent in intents:
                with (
                    clean_environment(ECO2_PROVIDER=provider),
                    character_service(),
                    record(folder / f"{intent}.yaml", upstream=hosts, **keys),
                ):
                    asyncio.run(_converse(QUESTIONS[intent]))


async def _converse(message: str) -> None:
    await build_graph().ainvoke(turn(message))


def main(arguments: Sequence[str]) -> int:
    """Record and return the exit status."""
    record_demo(arguments or tuple(QUESTIONS))
    if arguments:
        return 0
    # A process of its own: pytest wants to import its plugins itself.
    tests = [sys.executable, "-m", "pytest", "-q", "-n0", "--record-mode=standin", str(_TESTS)]
    return subprocess.run(tests, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
