"""RunCallbacks: passes LangChain's callbacks on to the tracker of runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult

from eco2_callbacks.callback_payloads import decision_result, has_content, name_of, text_of_part
from eco2_callbacks.run_ids import uuid_of
from eco2_callbacks.runs import SUCCESS, OpenLLMCall, OpenRun, Tracker, current_task, outcome_of
from eco2_callbacks.sdk_retries import SDKRetryCounter

if TYPE_CHECKING:
    from eco2_callbacks.budgets import BudgetGate

__all__ = ["RUN_CALLBACKS", "RunCallbacks"]

RUN_CALLBACKS = (
    *("on_chain_start", "on_chain_end", "on_chain_error"),
    *("on_chat_model_start", "on_llm_start", "on_llm_new_token", "on_stream_event", "on_llm_end", "on_llm_error"),
    *("on_tool_start", "on_tool_end", "on_tool_error"),
    *("on_retriever_start", "on_retriever_end", "on_retriever_error"),
)


class RunCallbacks(BaseCallbackHandler):
    """LangChain's callbacks. What fails in one is reported, and never reaches the application.

    Run ids can come as text: LangChain passes on the id that a caller's config names as it is.

    A subclass sets the attributes before it is attached.
    """

    # LangChain's async managers call an inline handler at once, in order, and on the event's own thread.
    run_inline = True

    _tracker: Tracker
    _gate: BudgetGate | None
    _sdk_retries: SDKRetryCounter
    _clock: Callable[[], float]
    # Called, while the exception is handled, with the callback's name and the run id.
    _failed: Callable[[str, UUID | None], None]
    # The tracker's ``open_run``, bound once: this look-up happens for every streamed token.
    _open_run: Callable[[int], OpenRun | None]

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
        """Open a request (a root run), a node's run, or a link between runs; a decision model's run is a call."""
        if self._gate is not None and kwargs.get("run_type") == "llm":
            self._gate.check(serialized, kwargs, run_id, parent_run_id, metadata, prompts=[str(inputs)])
        try:
            if kwargs.get("run_type") == "llm":
                # A decision model: a model call that LangChain reports as a chain.
                self._tracker.start_call(run_id, parent_run_id, tags, metadata, serialized=serialized, params=None)
                return
            self._tracker.start_chain(
                run_id,
                parent_run_id,
                kwargs.get("name"),
                inputs,
                tags,
                metadata,
                defers_inputs=bool(kwargs.get("defers_inputs")),
            )
        except Exception:
            self._failed("on_chain_start", run_id)

    def on_chain_end(self, outputs: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a request, a node's run or a link."""
        try:
            if type(run_id) is not UUID:
                run_id = uuid_of(run_id)
            if isinstance(self._open_run(run_id.int), OpenLLMCall):
                outputs = decision_result(outputs)
            self._tracker.end(run_id, SUCCESS, outputs)
        except Exception:
            self._failed("on_chain_end", run_id)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a request, a node's run or a link that failed, was cancelled or interrupted."""
        try:
            outcome = outcome_of(error)
            # A node that hands over to the graph above passes its output as an exception.
            self._tracker.end(run_id, outcome, error.args[0] if outcome.status == "success" and error.args else None)
        except Exception:
            self._failed("on_chain_error", run_id)

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
        """Open a chat model's call."""
        sent = messages[0] if messages else ()
        if self._gate is not None:
            self._gate.check(serialized, kwargs, run_id, parent_run_id, metadata, messages=sent)
        try:
            self._tracker.start_call(
                run_id,
                parent_run_id,
                tags,
                metadata,
                serialized=serialized,
                params=kwargs.get("invocation_params"),
                messages=sent,
                watched="batch_size" in kwargs,
            )
            if self._sdk_retries.is_watching:
                self._sdk_retries.on_start(run_id)
        except Exception:
            self._failed("on_chat_model_start", run_id)

    def on_llm_start(
        self,
        serialized: dict[str, Any],
        prompts: list[str],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a text-completion model's call."""
        if self._gate is not None:
            self._gate.check(serialized, kwargs, run_id, parent_run_id, metadata, prompts=prompts)
        try:
            self._tracker.start_call(
                run_id,
                parent_run_id,
                tags,
                metadata,
                serialized=serialized,
                params=kwargs.get("invocation_params"),
                prompts=prompts,
                # ``BaseLLM.agenerate`` starts each prompt in a task that is done before the request is sent. The ends
                # of its calls fire in any case.
                watched="batch_size" in kwargs and current_task() is None,
            )
            if self._sdk_retries.is_watching:
                self._sdk_retries.on_start(run_id)
        except Exception:
            self._failed("on_llm_start", run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add one streamed chunk; guarded in place, because a wrapper would cost as much as the work."""
        try:
            if type(run_id) is not UUID:
                run_id = uuid_of(run_id)
            call = self._open_run(run_id.int)
            if not isinstance(call, OpenLLMCall):
                return
            stream = call.stream or self._tracker.start_stream(call)
            if chunk is None:
                if call.is_repeated_token():
                    return  # attached twice
                call.texts.append(str(token))
            elif call.chunks and call.chunks[-1] is chunk:
                return  # attached twice
            else:
                call.chunks.append(chunk)
            if (token and isinstance(token, str)) or has_content(token, chunk):
                stream.add_chunk(self._clock())
        except Exception:
            self._failed("on_llm_new_token", run_id)

    def on_stream_event(
        self,
        event: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Add one event of a v3 stream; of a model that also fires tokens, only those are counted."""
        try:
            if type(run_id) is not UUID:
                run_id = uuid_of(run_id)
            call = self._open_run(run_id.int)
            if not isinstance(call, OpenLLMCall) or call.last_event is event:
                return  # not open, or attached twice
            call.last_event = event
            if "usage" in event:
                call.reported_usage = event["usage"]
            stream = call.stream or self._tracker.start_stream(call)
            if call.chunks:
                return
            if event.get("event") == "content-block-delta":
                call.texts.append(text_of_part(event["delta"], "text", "args"))
                stream.add_chunk(self._clock())
            elif event.get("event") == "content-block-start":
                call.texts.append(text_of_part(event["content"], "name"))
        except Exception:
            self._failed("on_stream_event", run_id)

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a model's call with its answer."""
        try:
            self._tracker.end(run_id, SUCCESS, response)
        except Exception:
            self._failed("on_llm_end", run_id)

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a model's call that failed or was cancelled, with its answer so far."""
        try:
            self._tracker.end(run_id, outcome_of(error), kwargs.get("response"))
        except Exception:
            self._failed("on_llm_error", run_id)

    def on_tool_start(
        self,
        serialized: dict[str, Any],
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a tool's call."""
        try:
            self._tracker.start_tool(
                run_id,
                parent_run_id,
                metadata,
                name_of(serialized, kwargs),
                input_text=input_str,
                is_retriever=False,
            )
        except Exception:
            self._failed("on_tool_start", run_id)

    def on_tool_end(self, output: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a tool's call."""
        try:
            self._tracker.end(run_id, SUCCESS)
        except Exception:
            self._failed("on_tool_end", run_id)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a tool's call that failed, was cancelled or interrupted."""
        try:
            self._tracker.end(run_id, outcome_of(error))
        except Exception:
            self._failed("on_tool_error", run_id)

    def on_retriever_start(
        self,
        serialized: dict[str, Any],
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Open a retriever's call."""
        try:
            self._tracker.start_tool(
                run_id,
                parent_run_id,
                metadata,
                name_of(serialized, kwargs),
                input_text=query,
                is_retriever=True,
            )
        except Exception:
            self._failed("on_retriever_start", run_id)

    def on_retriever_end(self, documents: Any, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a retriever's call."""
        try:
            self._tracker.end(run_id, SUCCESS)
        except Exception:
            self._failed("on_retriever_end", run_id)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> None:
        """Close a retriever's call that failed or was cancelled."""
        try:
            self._tracker.end(run_id, outcome_of(error))
        except Exception:
            self._failed("on_retriever_error", run_id)
