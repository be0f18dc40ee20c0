"""SDKCall: a block around a model call that is made with a provider's own SDK."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Self, TypeVar, overload
from uuid import UUID

from langchain_core.outputs import LLMResult

from eco2_callbacks.own_runs.block import OwnRun, OwnRunHost
from eco2_callbacks.own_runs.operations import Operation
from eco2_callbacks.runs import SUCCESS, Outcome, outcome_of
from eco2_callbacks.usage import SDKStream, combined, plain, prompt_messages, prompt_texts, read_sdk_answer, stream_of

__all__ = ["SDKCall"]

_T = TypeVar("_T")
# Other names of the providers, as users of their SDKs know them.
_PROVIDERS = {
    "aws": "amazon_bedrock",
    "aws_bedrock": "amazon_bedrock",
    "azure_openai": "azure",
    "bedrock": "amazon_bedrock",
    "gemini": "google_genai",
    "google": "google_genai",
    "google-genai": "google_genai",
    "google-vertexai": "google_vertexai",
    "mistralai": "mistral",
    "vertexai": "google_vertexai",
    "x-ai": "xai",
}
_CUT = outcome_of(GeneratorExit())


class SDKCall(OwnRun):
    """One model call made with a provider's own SDK. ``Eco2CallbackHandler.call`` makes it.

    ======================  ==============================================================================
    The SDK gave            Then
    ======================  ==============================================================================
    a whole answer          ``call.answered(response)``
    a stream                ``for chunk in call.streamed(stream)``, or ``async for``
    chunks, by a callback   ``call.add_chunk(chunk)`` for each
    nothing                 the record has no usage, and ``unpriced_reason="no_usage"``
    an exception            it passes on; the record has the status ``error`` or ``cancelled``
    ======================  ==============================================================================

    Read are answers of openai (Chat Completions, Responses, results of the Agents SDK), google-genai, anthropic,
    cohere, mistralai and boto3's Bedrock client (``converse``, its stream, ``invoke_model``): their objects, or the
    same as dicts. Several answers in one block add up to one call.
    """

    _callback = "call"
    _run_type = "llm"

    def __init__(
        self,
        host: OwnRunHost,
        *,
        provider: str,
        model: str,
        base_url: str | None,
        operation: Operation,
        request: Mapping[str, Any] | None,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> None:
        provider = _PROVIDERS.get(provider.lower(), provider)
        named = {
            "ls_provider": provider,
            "ls_model_name": model,
            "ls_model_type": "chat" if operation == "chat" else operation,
        }
        super().__init__(host, name=model, metadata={**metadata, **named}, tags=tags)
        self._base_url = base_url
        self._operation = operation
        self._request = request
        self._answers: list[LLMResult] = []
        self._raw_answers: list[Any] = []
        self._stream: SDKStream | None = None
        self._is_cut = False
        self._prefers_async = False

    async def __aenter__(self) -> Self:
        self._prefers_async = True
        return self.__enter__()

    def answered(self, response: _T) -> _T:
        """Take the SDK's answer, and return it. An answer that holds no usage is estimated."""
        try:
            answer = _parsed(response)
            result = read_sdk_answer(answer)
            if result is None:
                self._host.on_fault(
                    f"call.answered() came with {type(response).__name__!r}, wanted an answer of openai, google-genai, "
                    "anthropic, cohere, mistralai or Bedrock; pass the SDK's own answer",
                    "call",
                )
            elif not any(answer is known for known in self._raw_answers):
                self._raw_answers.append(answer)
                self._answers.append(result)
        except Exception:
            self._host.on_failure("call", self._run_id)
        return response

    @overload
    def streamed(self, stream: AsyncIterable[_T]) -> AsyncIterator[_T]: ...
    @overload
    def streamed(self, stream: Iterable[_T]) -> Iterator[_T]: ...
    def streamed(self, stream: Any) -> Any:
        """Return an iterator that passes the chunks on and reads them; asynchronous for an asynchronous stream.

        A stream that is left before its end counts as cancelled, with an estimate of what had arrived.
        """
        has_both = hasattr(stream, "__aiter__") and hasattr(stream, "__iter__")
        if hasattr(stream, "__aiter__") and (self._prefers_async or not has_both):
            return self._pass_on_async(stream)
        return self._pass_on(stream)

    def add_chunk(self, chunk: object) -> None:
        """Read one chunk or event of a streamed answer."""
        try:
            stream = self._stream or stream_of(chunk)
            if stream is None:
                self._host.on_fault(
                    f"A streamed call came with {type(chunk).__name__!r}, wanted a chunk of openai, google-genai, "
                    "anthropic, cohere, mistralai or Bedrock; pass the SDK's own chunks, or the whole answer to "
                    "call.answered()",
                    "call",
                )
                return
            self._stream = stream
            generation = stream.add(chunk)
            if generation is not None and self._run_id is not None:
                self._host.on_chunk(self._run_id, generation)
        except Exception:
            self._host.on_failure("call", self._run_id)

    def _pass_on(self, stream: Iterable[_T]) -> Iterator[_T]:
        self._is_cut = True
        for chunk in stream:
            self.add_chunk(chunk)
            yield chunk
        self._is_cut = False

    async def _pass_on_async(self, stream: AsyncIterable[_T]) -> AsyncIterator[_T]:
        self._is_cut = True
        async for chunk in stream:
            self.add_chunk(chunk)
            yield chunk
        self._is_cut = False

    def _start(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any]) -> None:
        self._answers, self._raw_answers, self._stream, self._is_cut = [], [], None, False
        request = self._request or {}
        serialized, params = _serialized(self._base_url), dict(request)
        # What is no conversation has no overhead a message.
        messages = () if self._operation != "chat" else prompt_messages(request)
        self._host.admit(serialized, params, run_id, parent_run_id, metadata, messages)
        self._host.tracker.start_call(
            run_id,
            parent_run_id,
            self._tags,
            metadata,
            serialized=serialized,
            params=params,
            messages=messages,
            prompts=() if self._operation == "chat" else prompt_texts(request),
            operation=self._operation,
        )

    def _end(self, run_id: UUID, exc: BaseException | None) -> Outcome:
        stream = self._stream
        is_answered = bool(self._answers) or (stream is not None and stream.is_complete)
        result = combined(self._answers) if self._answers or stream is None else stream.result()
        if exc is not None:
            outcome = outcome_of(exc)
            if outcome.status in ("interrupted", "success"):
                # Control flow of the graph, which says nothing about the call.
                outcome = SUCCESS if is_answered else Outcome("cancelled", outcome.error_type)
        else:
            outcome = _CUT if self._is_cut and not is_answered else SUCCESS
            if result is None:
                self._host.on_fault(
                    f"The block of a call to model {self._name!r} ended without an answer, and is recorded without "
                    "usage; pass the answer to call.answered()",
                    "",
                )
        if (call := self._host.tracker.open_call(run_id)) is not None:
            call.is_answered = is_answered
        self._host.tracker.end(run_id, outcome, result)
        return outcome

    def _inputs(self) -> Mapping[str, Any]:
        return dict(plain(self._request) or {})

    def _outputs(self) -> Mapping[str, Any]:
        answers = [plain(answer) for answer in self._raw_answers]
        if len(answers) == 1 and isinstance(answers[0], dict):
            return answers[0]
        if answers:
            return {"answers": answers}
        if self._stream is None:
            return {}
        texts = [
            str(getattr(choice, "text", "")) for choices in self._stream.result().generations for choice in choices
        ]
        return {"output": "".join(texts)}


@lru_cache(maxsize=256)
def _serialized(base_url: str | None) -> dict[str, Any]:
    """Return a model's serialized form with its address, one object for each address: who serves it is cached by it."""
    return {"kwargs": {} if base_url is None else {"base_url": base_url}}


def _parsed(response: Any) -> Any:
    """Return the answer inside a raw HTTP response of the SDK (``with_raw_response``)."""
    parse = getattr(response, "parse", None)
    return parse() if callable(parse) and hasattr(response, "http_response") else response
