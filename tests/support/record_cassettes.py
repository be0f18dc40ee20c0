"""Records all cassettes from the stand-ins. Arguments limit it to the demo's conversations of these names."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import cast

from graph import build_graph
from graph.cli import CONVERSATIONS, SUMMARIZE_TOKENS, Conversation, cassette_folder
from graph.cli.demo import first_state
from graph.replay import KEYS, clean_environment, record
from graph.runtime import CASSETTES, Runtime, character_service
from graph.state import State
from tests.support import call_paths, scripts
from tests.support.provider_standin import LIFELIKE, StandIn
from tests.support.service_standins import Services

__all__ = ["main", "record_demo", "upstream"]

_TESTS = Path(__file__).parents[1] / "graph"
_SERVICES = ("dapi.kakao.com", "apis.data.go.kr", "api.data.go.kr")


@contextmanager
def upstream() -> Iterator[tuple[dict[str, str], dict[str, str]]]:
    """Start the stand-ins, and yield the base URL for each host and the keys of the services."""
    with StandIn((*call_paths.SCRIPT, *scripts.SCRIPT), pace=LIFELIKE) as providers, Services() as services:
        keys = {name: value for name, value in services.environment().items() if name in KEYS}
        yield {**providers.upstream, **dict.fromkeys(_SERVICES, services.url)}, keys


def record_demo(names: Sequence[str]) -> None:
    """Record the demo's conversations with both providers, in both languages."""
    for provider, (language, conversations) in product(("openai", "google"), CONVERSATIONS.items()):
        folder = cassette_folder(CASSETTES, provider=provider, language=language)
        # All conversations share one stand-in, so each one finds the prompts of the earlier ones in the cache.
        with upstream() as (hosts, keys):
            for name in names:
                with (
                    clean_environment(ECO2_PROVIDER=provider),
                    character_service(),
                    record(folder / f"{name}.yaml", upstream=hosts, **keys),
                ):
                    asyncio.run(_converse(conversations[name]))


async def _converse(conversation: Conversation) -> None:
    graph = build_graph(summarize_tokens=SUMMARIZE_TOKENS)
    await graph.ainvoke(cast("State", first_state(Runtime(), conversation)))


def main(arguments: Sequence[str]) -> int:
    """Record and return the exit status."""
    record_demo(arguments or tuple(CONVERSATIONS["ko"]))
    if arguments:
        return 0
    # A process of its own: pytest wants to import its plugins itself.
    tests = [sys.executable, "-m", "pytest", "-q", "-n0", "--record-mode=standin", str(_TESTS)]
    return subprocess.run(tests, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
