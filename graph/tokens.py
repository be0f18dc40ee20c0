"""Tokens: what a job's reader sees, in a Redis stream of its own, while the graph runs and after."""

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

__all__ = ["Heard", "Listener", "TokenStream", "stream_name"]

Kind: TypeAlias = Literal["token", "node", "done", "error"]
ANSWERING = "answer"
_MOST_ENTRIES = 10_000
_KEPT_SECONDS = 3600


def stream_name(job_id: str) -> str:
    """Return the stream that a job's tokens go to."""
    return f"eco2:tokens:{job_id}"


@dataclass(frozen=True, slots=True)
class Heard:
    """What is worth an entry: a token of the answer, or a node that has ``started`` or ``ended``."""

    kind: Literal["token", "node"]
    node: str
    text: str


class Listener(BaseCallbackHandler):
    """Hears the nodes of one request and the tokens of its answer, in order; iterating yields them until it is closed.

    A callback, since ``stream_mode="messages"`` would make every model stream, also those that a node merely invokes.
    """

    run_inline = True

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._heard: asyncio.Queue[Heard | None] = asyncio.Queue()
        self._root: UUID | None = None
        self._nodes: dict[UUID, str] = {}
        self._answers: set[UUID] = set()

    async def __aiter__(self) -> AsyncIterator[Heard]:
        while (heard := await self._heard.get()) is not None:
            yield heard

    def close(self) -> None:
        """End the iteration behind what was heard so far."""
        self._tell(None)

    def _tell(self, heard: Heard | None) -> None:
        # A node that is a plain function runs on another thread.
        self._loop.call_soon_threadsafe(self._heard.put_nowait, heard)

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
        """Tell of a node directly below the request."""
        if parent_run_id is None:
            self._root = run_id
            return
        if parent_run_id == self._root and (node := node_of(metadata, kwargs.get("name"))) is not None:
            self._nodes[run_id] = node
            self._tell(Heard("node", node, "started"))

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Tell of a node that went well; one that failed ends the request, which is told by its last entry."""
        if (node := self._nodes.pop(run_id, None)) is not None:
            self._tell(Heard("node", node, "ended"))

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
        """Note the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") == ANSWERING:
            self._answers.add(run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Tell of a piece of the answer."""
        text = chunk.text if chunk is not None else token
        if run_id in self._answers and isinstance(text, str) and text:
            self._tell(Heard("token", ANSWERING, text))


class TokenStream:
    """The entries of one job: ``seq``, counted from 0, ``type``, ``node`` and ``text``.

    ``done`` and ``error`` are the last one. A job that is run again begins with 0 again, on an empty stream. The stream
    keeps the last 10,000 entries, for an hour.

    Args:
        redis: Where it is.
        job_id: The job.
        published: Is told the node and how many seconds Redis took to add one of its tokens.
    """

    def __init__(self, redis: Redis, job_id: str, *, published: Callable[[str, float], None]) -> None:
        self._redis = redis
        self._name = stream_name(job_id)
        self._published = published
        self._seq = 0
        self._tokens = 0

    async def begin(self) -> None:
        """Empty the stream: another worker may have begun this job and died."""
        await self._redis.delete(self._name)

    async def add(self, heard: Heard) -> None:
        """Publish one token, or what a node did."""
        if heard.kind == "node":
            await self._add_and_keep(self._entry("node", node=heard.node, text=heard.text))
            return
        entry = self._entry("token", node=heard.node, text=heard.text)
        began = time.perf_counter()
        await self._redis.xadd(self._name, entry, maxlen=_MOST_ENTRIES)
        self._published(heard.node, time.perf_counter() - began)
        self._tokens += 1

    async def done(self, answer: str, images: Sequence[str]) -> None:
        """End the stream with the whole answer, and the data URLs of the pictures that were made."""
        if answer and not self._tokens:  # no model wrote it
            await self.add(Heard("token", ANSWERING, answer))
        made = {"images": json.dumps(list(images))} if images else {}
        await self._add_and_keep(self._entry("done", text=answer) | made)

    async def failed(self, reason: str) -> None:
        """End the stream with what went wrong: the exception's class, or ``cancelled``."""
        await self._add_and_keep(self._entry("error", text=reason))

    def _entry(self, kind: Kind, *, node: str = "", text: str) -> dict[Any, Any]:
        seq, self._seq = self._seq, self._seq + 1
        return {"seq": seq, "type": kind, "node": node, "text": text}

    async def _add_and_keep(self, entry: dict[Any, Any]) -> None:
        """Add an entry, and let the stream live on from it: no crash leaves one behind for ever."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(self._name, entry, maxlen=_MOST_ENTRIES)
            pipeline.expire(self._name, _KEPT_SECONDS)
            await pipeline.execute()
