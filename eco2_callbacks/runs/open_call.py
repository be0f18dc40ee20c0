"""OpenLLMCall: what is known of a model call between its start and its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage

from eco2_callbacks.runs.identities import Identity
from eco2_callbacks.runs.open_runs import OpenRun, TimedRun, current_task
from eco2_callbacks.runs.places import Place
from eco2_callbacks.runs.request_context import RequestContext
from eco2_callbacks.runs.spans import current_span
from eco2_callbacks.runs.streams import Stream
from eco2_callbacks.usage import ServedModel

__all__ = ["OpenLLMCall"]

# Shared by all calls that do not stream; ``start_stream`` replaces it.
_NOTHING_STREAMED: list[Any] = []


class OpenLLMCall(TimedRun):
    """A model's run.

    Attributes:
        parent_run_id: As LangChain names it.
        serialized: LangChain's description of the model object, with its endpoint.
        served: Who serves the model, and by which rules it is billed.
        params: LangChain's invocation parameters.
        messages: What was sent to a chat model.
        prompts: What was sent to a text-completion model.
        stream: Set from the first chunk on, with the next two.
        chunks: What was streamed, kept in case the call is cut short.
        texts: What was streamed as text, where there were no chunks.
        last_event: The last event of a v3 stream.
        sdk_retries: Retries inside the provider's client; None where it is not watched.
        reported_usage: The last usage that an event of a v3 stream reported.
        is_answered: Whether the whole answer has come, although the code around it may have failed later.
        is_passed_on: Whether the answer is that of another call inside this one.
        attachments: How often the handler is attached to it.
        tokens: Token callbacks without a chunk so far.
        left_at: When its thread or task went on without it, in seconds of the handler's clock.
        watch: Where it is put when its task is done, while it is watched; None while it is not.
    """

    __slots__ = (
        "attachments",
        "chunks",
        "intent",
        "is_answered",
        "is_passed_on",
        "last_event",
        "left_at",
        "messages",
        "node_name",
        "operation",
        "params",
        "parent_run_id",
        "prompts",
        "provider",
        "reported_usage",
        "request_model",
        "sdk_retries",
        "serialized",
        "served",
        "stream",
        "tenant_id",
        "texts",
        "tokens",
        "watch",
    )

    def __init__(
        self,
        run_id: UUID,
        parent: OpenRun | None,
        context: RequestContext | None,
        *,
        started: float,
        started_at: datetime,
        place: Place,
        identity: Identity,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
        parent_run_id: UUID | None,
        node_name: str,
        intent: str,
        tenant_id: str,
        operation: str,
        served: ServedModel,
        request_model: str,
        serialized: Mapping[str, Any] | None,
        params: Mapping[str, Any],
        messages: Sequence[BaseMessage],
        prompts: Sequence[str],
    ) -> None:
        super().__init__(run_id, parent, context, started, place, identity)
        self.started_at = started_at
        self.metadata = metadata
        self.tags = tags
        self.span = current_span()
        self.parent_run_id = parent_run_id
        self.node_name = node_name
        self.intent = intent
        self.tenant_id = tenant_id
        self.operation = operation
        self.served = served
        self.provider = served.provider
        self.request_model = request_model
        self.serialized = serialized
        self.params = params
        self.messages = messages
        self.prompts = prompts
        self.stream: Stream | None = None
        self.chunks: list[Any] = _NOTHING_STREAMED
        self.texts: list[str] = _NOTHING_STREAMED
        self.last_event: Any = None
        self.reported_usage: Any = None
        self.sdk_retries: int | None = None
        self.left_at: float | None = None
        self.is_answered = False
        self.is_passed_on = False
        self.attachments = 1
        self.tokens = 0
        self.watch: deque[OpenLLMCall] | None = None

    def requested(self) -> tuple[object, ...]:
        """Return what tells one model from another: two endpoints can serve the same name."""
        return self.provider, self.request_model, self.serialized

    def may_still_end(self) -> bool:
        """Do the same, also where LangChain's text-completion model starts a call in a helper task.

        That task is done before the request is sent. The end fires in the task of the model, which is unknown here.
        """
        if self.task is not None and self.prompts and self.watch is None and self.task is not current_task():
            return True
        return super().may_still_end()

    def is_repeated_token(self) -> bool:
        """Count a token callback without a chunk; return whether another attachment of the handler had it already."""
        self.tokens += 1
        return self.attachments > 1 and self.tokens % self.attachments != 1

    def start_stream(self) -> Stream:
        """Begin to keep what is streamed."""
        self.chunks, self.texts = [], []
        self.stream = stream = Stream()
        return stream

    def on_task_done(self, _: object) -> None:
        """Called by the loop, at any time: only note that the call was left, if it is still open."""
        if self.watch is not None:
            self.watch.append(self)
