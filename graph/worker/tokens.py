"""Publishes a job's tokens and node events to the job's own Redis stream."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk
from redis.asyncio import Redis

from graph.node_runs import node_of

__all__ = ["StreamEvent", "StreamEvents", "TokenStream", "stream_name"]

Kind: TypeAlias = Literal["token", "node", "done", "error"]
ANSWER_NODE = "answer"
_MAX_ENTRIES = 10_000
_KEEP_SECONDS = 3600


def stream_name(job_id: str) -> str:
    """Return the name of a job's token stream."""
    return f"eco2:tokens:{job_id}"


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """A token of the answer, or a node that has ``started`` or ``ended``."""

    kind: Literal["token", "node"]
    node: str
    text: str


class StreamEvents(BaseCallbackHandler):
    """Collects the node events and answer tokens of one request, in order. Iteration ends after :meth:`close`.

    It is a callback because ``stream_mode="messages"`` would make every model stream.
    """

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[StreamEvent | None] = asyncio.Queue()
        self._root: UUID | None = None
        self._nodes: dict[UUID, str] = {}
        self._answer_calls: set[UUID] = set()

    async def __aiter__(self) -> AsyncIterator[StreamEvent]:
        while (event := await self._events.get()) is not None:
            yield event

    def close(self) -> None:
        """End the iteration after the events so far."""
        self._put(None)

    def _put(self, event: StreamEvent | None) -> None:
        # A node that is a plain function runs on another thread.
        self._loop.call_soon_threadsafe(self._events.put_nowait, event)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add the start of a node directly below the request."""
        if parent_run_id is None:
            self._root = run_id
            return
        if parent_run_id == self._root and (node := node_of(metadata, kwargs.get("name"))) is not None:
            self._nodes[run_id] = node
            self._put(StreamEvent("node", node, "started"))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Add the end of a successful node. A failed node fails the request, whose last entry says so."""
        if (node := self._nodes.pop(run_id, None)) is not None:
            self._put(StreamEvent("node", node, "ended"))

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") == ANSWER_NODE:
            self._answer_calls.add(run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Add a piece of the answer."""
        text = chunk.text if chunk is not None else token
        if run_id in self._answer_calls and isinstance(text, str) and text:
            self._put(StreamEvent("token", ANSWER_NODE, text))


class TokenStream:
    """The token stream of one job. Its entries have ``seq`` (counted from 0), ``type``, ``node`` and ``text``.

    The last entry has the type ``done`` or ``error``. A retried job starts again at 0, on an empty stream. The stream
    keeps the last 10,000 entries, for an hour.

    Args:
        redis: The Redis client.
        job_id: The job.
        published: Receives the node and the seconds that Redis took to add one of its tokens.
    """

    def __init__(self, redis: Redis, job_id: str, *, published: Callable[[str, float], None]) -> None:
        self._redis = redis
        self._name = stream_name(job_id)
        self._published = published
        self._seq = 0
        self._tokens = 0

    async def begin(self) -> None:
        """Empty the stream: another worker may have started this job and crashed."""
        await self._redis.delete(self._name)

    async def add(self, event: StreamEvent) -> None:
        """Publish one token or node event."""
        if event.kind == "node":
            await self._add_and_set_expiry(self._entry("node", node=event.node, text=event.text))
            return
        entry = self._entry("token", node=event.node, text=event.text)
        began = time.perf_counter()
        await self._redis.xadd(self._name, entry, maxlen=_MAX_ENTRIES)
        self._published(event.node, time.perf_counter() - began)
        self._tokens += 1

    async def done(self, answer: str, images: Sequence[str]) -> None:
        """End the stream with the complete answer and the data URLs of generated images."""
        if answer and not self._tokens:  # no model wrote the answer
            await self.add(StreamEvent("token", ANSWER_NODE, answer))
        generated = {"images": json.dumps(list(images))} if images else {}
        await self._add_and_set_expiry(self._entry("done", text=answer) | generated)

    async def failed(self, reason: str) -> None:
        """End the stream with the reason: the exception's class, ``cancelled`` or ``abandoned``."""
        await self._add_and_set_expiry(self._entry("error", text=reason))

    def _entry(self, kind: Kind, *, node: str = "", text: str) -> dict[Any, Any]:
        seq, self._seq = self._seq, self._seq + 1
        return {"seq": seq, "type": kind, "node": node, "text": text}

    async def _add_and_set_expiry(self, entry: dict[Any, Any]) -> None:
        """Add an entry and renew the expiry, so that no stream outlives a crash for long."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(self._name, entry, maxlen=_MAX_ENTRIES)
            pipeline.expire(self._name, _KEEP_SECONDS)
            await pipeline.execute()
