"""Generates traffic: replays recorded conversations of several tenants on the real graph, some with a fault.

``uv run python deploy/grafana/traffic.py`` serves the metrics of its conversations. Several processes, on different
ports, act as several workers. A fault changes the recording; the graph, the SDKs and the handler are the real ones.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import re
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import yaml
from langchain_core.callbacks import BaseCallbackHandler
from openai import OpenAIError
from prometheus_client import CollectorRegistry, start_http_server
from redis import Redis

from eco2_callbacks import Budget, Eco2CallbackHandler, run_config
from graph.app import AGENT_NAME, FEATURES, FEEDBACK, SUBAGENTS, open_graph
from graph.cli import QUESTIONS
from graph.clients import CharacterServer
from graph.replay import KEYS, REPLAY_SETTINGS, clean_environment, provider_environment, replay
from graph.runtime import CASSETTES, Graph
from graph.state import turn

__all__ = ["BUDGETS", "Conversation", "Fault", "Worker", "make_handler", "worker"]

BUDGETS: Final[Mapping[str, Budget]] = MappingProxyType(
    {
        "seoul": {"monthly_usd": 300, "daily_usd": 20},
        "busan": {"monthly_usd": 120, "daily_usd": 8},
        "jeju": {"monthly_usd": 40, "daily_usd": 2},
    }
)
"""The tenants and their budgets."""

_LOADER: Final = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader
_DUMPER: Final = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
_ATTEMPTS: Final = 3  # OpenAI's SDK tries a call three times
_UNKNOWN: Final = "eco2-large-1"
_LIMITED: Final = '{"error": {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}}'
_BROKEN: Final = 'data: {"error": {"message": "The server had an error", "type": "server_error", "code": null}}\n\n'


class Fault(StrEnum):
    """A fault in a conversation. Only conversations recorded with OpenAI's models can have one."""

    RATE_LIMIT = "rate_limit"
    """The provider answers 429 to every attempt of the call that writes the answer."""
    BROKEN_STREAM = "broken_stream"
    """The provider sends an error in the middle of the answer."""
    CANCELLED = "cancelled"
    """The user cancels in the middle of the answer."""
    UNKNOWN_MODEL = "unknown_model"
    """The model that answers has no price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """One recorded conversation."""

    intent: str = "greeting"
    provider: str = "openai"
    tenant: str = "seoul"
    fault: Fault | None = None

    @property
    def path(self) -> Path:
        """Path of the recording."""
        return (CASSETTES if self.provider == "openai" else CASSETTES / self.provider) / f"{self.intent}.yaml"


class Worker:
    """Plays conversations, one after the other.

    Args:
        graph: The real graph.
        handler: The handler that measures it.
        folder: Where recordings with a fault are written.
        character_address: Address of the character service, which is not recorded.
        publish: Publishes a token; called with the job's id and the token.
    """

    def __init__(
        self,
        graph: Graph,
        handler: Eco2CallbackHandler,
        folder: Path,
        *,
        character_address: str,
        publish: Callable[[str, str], object],
    ) -> None:
        self._graph, self._handler, self._folder = graph, handler, folder
        self._address, self._publish = character_address, publish
        self._jobs = 0

    async def play(self, conversation: Conversation, *, speed: float) -> str:
        """Play a conversation at ``speed`` times its recorded pace, and return its job's id."""
        self._jobs += 1
        job_id = f"{id(self):x}-{self._jobs}"
        publisher = _Publisher(self._handler, lambda token: self._publish(job_id, token))
        config = run_config(self._handler, job_id=job_id, session_id=job_id, tenant_id=conversation.tenant)
        config["callbacks"] = [self._handler, publisher]
        settings = {"ECO2_PROVIDER": conversation.provider, "ECO2_CHARACTER_ADDRESS": self._address}
        path = _recording_with_fault(conversation, self._folder) if conversation.fault else conversation.path
        model = {"ECO2_OPENAI_MODEL": _UNKNOWN} if conversation.fault is Fault.UNKNOWN_MODEL else {}
        with (
            clean_environment(**REPLAY_SETTINGS, **settings),
            replay(path, speed=speed),
            provider_environment(KEYS, **model),
        ):
            request = asyncio.ensure_future(self._graph.ainvoke(turn(QUESTIONS[conversation.intent]), config))
            if conversation.fault is Fault.CANCELLED:
                await publisher.started.wait()
                request.cancel()
            try:
                await request
            except (OpenAIError, asyncio.CancelledError):
                if conversation.fault is None:
                    raise
        return job_id


def make_handler(registry: CollectorRegistry, **options: Any) -> Eco2CallbackHandler:
    """Return a handler like the graph's, with budgets. ``options`` are passed to the handler."""
    return Eco2CallbackHandler(
        registry=registry,
        agent_name=AGENT_NAME,
        subagents=SUBAGENTS,
        features=FEATURES,
        feedback=FEEDBACK,
        budgets=BUDGETS,
        **options,
    )


@asynccontextmanager
async def worker(
    handler: Eco2CallbackHandler, *, publish: Callable[[str, str], object] = lambda *_: None
) -> AsyncIterator[Worker]:
    """Yield a worker while the block runs. ``publish`` gets each job's id and token; its duration is measured."""
    with tempfile.TemporaryDirectory() as folder, CharacterServer() as characters:
        async with open_graph() as graph:
            yield Worker(graph, handler, Path(folder), character_address=characters.address, publish=publish)


class _Publisher(BaseCallbackHandler):
    """Publishes each token of a conversation, and reports the duration to the handler."""

    run_inline = True

    def __init__(self, handler: Eco2CallbackHandler, publish: Callable[[str], object]) -> None:
        self._metrics, self._publish = handler.stream_metrics, publish
        self._nodes: dict[UUID, str] = {}
        self.started = asyncio.Event()

    def on_chat_model_start(self, *_: Any, run_id: UUID, metadata: Mapping[str, Any] | None = None, **__: Any) -> None:
        """Remember the node of a model call."""
        self._nodes[run_id] = (metadata or {}).get("langgraph_node", "")

    def on_llm_new_token(self, token: str | list[str | dict[str, Any]], *, run_id: UUID, **_: Any) -> None:
        """Publish a token and report how long it took."""
        if token:
            started = time.perf_counter()
            self._publish(str(token))
            self._metrics.published(self._nodes[run_id], time.perf_counter() - started)
            self.started.set()


def _recording_with_fault(conversation: Conversation, folder: Path) -> Path:
    """Return the recording of a conversation, changed by its fault."""
    path = folder / f"{conversation.intent}-{conversation.fault}.yaml"
    if path.is_file():
        return path
    recording = yaml.load(conversation.path.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 # a safe one
    interactions = recording["interactions"]
    (answer,) = (one for one in interactions if '"stream": true' in (one["request"]["body"] or ""))
    match conversation.fault:
        case Fault.RATE_LIMIT:
            headers = {"content-type": ["application/json"], "retry-after": ["0.01"]}
            answer["response"] = {
                "status": {"code": 429, "message": "Too Many Requests"},
                "headers": headers,
                "body": {"string": _LIMITED},
            }
            answer["timing"]["chunk_offsets"] = []
            interactions += [answer] * (_ATTEMPTS - 1)
        case Fault.BROKEN_STREAM:
            body = answer["response"]["body"]
            events = body["string"].split("\n\n")
            body["string"] = "\n\n".join(events[: len(events) // 2]) + f"\n\n{_BROKEN}"
            answer["timing"]["chunk_offsets"] = answer["timing"]["chunk_offsets"][:1]
        case Fault.UNKNOWN_MODEL:
            for one in interactions:
                for body in (one["request"], one["response"]["body"]):
                    for key in body.keys() & {"body", "string"}:
                        body[key] = re.sub(r'"gpt-5\.2(-2025-12-11)?"', f'"{_UNKNOWN}"', body[key])
    path.write_text(yaml.dump(recording, Dumper=_DUMPER, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def main() -> None:
    """Generate traffic in two waves and serve its metrics."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=9464, help="port of /metrics")
    parser.add_argument("--minutes", type=float, default=20, help="duration in minutes")
    parser.add_argument("--redis", default="redis://127.0.0.1:6379", help="URL of the Redis for the tokens")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random numbers")
    options = parser.parse_args()
    registry = CollectorRegistry()
    server, thread = start_http_server(options.port, addr="127.0.0.1", registry=registry)
    with make_handler(registry) as handler, Redis.from_url(options.redis) as redis:
        asyncio.run(_generate(handler, redis, random.Random(options.seed), options.minutes * 60))  # noqa: S311 # not for security
    server.shutdown()
    server.server_close()
    thread.join()


async def _generate(handler: Eco2CallbackHandler, redis: Redis, rng: random.Random, seconds: float) -> None:
    started = time.monotonic()

    def publish(job_id: str, token: str) -> None:
        redis.xadd(f"eco2:{job_id}", {"token": token}, maxlen=1000)

    async with worker(handler, publish=publish) as playing:
        while (elapsed := time.monotonic() - started) < seconds:
            job_id = await playing.play(_random_conversation(rng), speed=rng.uniform(0.8, 2))
            if rng.random() < 0.06:  # a reader lost its connection and reads what it missed
                read = redis.xrange(f"eco2:{job_id}")
                handler.stream_metrics.recovered(
                    "catch_up" if rng.random() < 0.8 else "snapshot", "success" if read else "error"
                )
            redis.delete(f"eco2:{job_id}")
            # Two waves within the given time.
            await asyncio.sleep(rng.expovariate(1) * 4 * (1.1 - math.sin(elapsed / seconds * 4 * math.pi)) / 2)


def _random_conversation(rng: random.Random) -> Conversation:
    intents = {"waste": 30, "general": 14, "greeting": 12, "location": 12, "bulk_waste": 10, "recyclable_price": 7}
    intents |= {"collection_point": 6, "web_search": 5, "character": 3, "image_generation": 1}
    intent = rng.choices(list(intents), list(intents.values()))[0]
    tenant = rng.choices(list(BUDGETS), [6, 3, 1])[0]
    if rng.random() < 0.05:
        return Conversation(intent=intent, tenant=tenant, fault=rng.choice(list(Fault)))
    return Conversation(intent=intent, provider=rng.choice(("openai", "openai", "google")), tenant=tenant)


if __name__ == "__main__":
    main()
