"""SDKCall and ToolRun: blocks that measure a call which LangChain does not see."""

from __future__ import annotations

import uuid
from abc import abstractmethod
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import lru_cache
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self, TypeAlias, TypeVar, cast, get_args, overload
from uuid import UUID

from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.errors import BudgetExceeded, ConfigError
from eco2_callbacks.langsmith import RunTree, end_own_run, start_own_run
from eco2_callbacks.runs import SUCCESS, Outcome, Tracker, context_metadata, context_run_id, outcome_of
from eco2_callbacks.usage import SDKStream, combined, plain, prompt_messages, prompt_texts, read_sdk_answer, stream_of

try:
    from langsmith import uuid7 as _new_run_id
except ImportError:  # an older langsmith, which takes any id
    _new_run_id = uuid.uuid4

__all__ = ["Operation", "OwnRunHost", "SDKCall", "ToolRun", "check_operation"]

Operation: TypeAlias = Literal["chat", "text_completion", "embeddings"]

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


def check_operation(operation: Any) -> Operation:
    """Return what a call does, if it is known.

    Raises:
        ConfigError: If it is not.
    """
    known = get_args(Operation)
    if operation not in known:
        raise ConfigError(
            f"operation= is {operation!r}, wanted one of {', '.join(map(repr, known))}; pass one of them."
        )
    return cast("Operation", operation)


class OwnRunHost(NamedTuple):
    """What a block needs of its handler.

    Attributes:
        tracker: The handler's.
        on_chunk: Adds a streamed chunk to an open call.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
        on_fault: Called with a text about what the application passed, and with the callback's name.
        admit: Lets a call start, or raises BudgetExceeded.
    """

    tracker: Tracker
    on_chunk: Callable[[UUID, ChatGenerationChunk], None]
    on_failure: Callable[[str, UUID | None], None]
    on_fault: Callable[[str, str], None]
    admit: Callable[..., None]


class _OwnRun:
    """A block whose run is opened on entry and closed on exit; works with ``with`` and ``async with``.

    What goes wrong inside it is logged and counted. It raises nothing but a refusal by a budget, on entry, and hides no
    exception of the application.
    """

    _callback: Literal["call", "tool"]
    _run_type: Literal["llm", "tool"]

    def __init__(self, host: OwnRunHost, *, name: str, metadata: Mapping[str, Any], tags: tuple[str, ...]) -> None:
        self._host = host
        self._name = name
        self._own_metadata = metadata
        self._tags = tags
        self._run_id: UUID | None = None
        self._context_run_id: UUID | None = None
        self._tree: RunTree | None = None
        self._token: Token[_OwnRun | None] | None = None

    @property
    def run_id(self) -> UUID | None:
        """The run's id, as in its record; None before the block is entered."""
        return self._run_id

    def __enter__(self) -> Self:
        try:
            self._open()
        except BudgetExceeded:
            self._run_id = None
            self._reset()
            raise
        except Exception:
            self._host.on_failure(self._callback, self._run_id)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close(exc)
        except Exception:
            self._host.on_failure(self._callback, self._run_id)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)

    def _open(self) -> None:
        run_id = self._run_id = _new_run_id()
        self._context_run_id = context_run_id()
        above = _innermost.get()
        # A LangChain run that was opened inside the block around this one is nearer.
        if above is not None and (above._context_run_id != self._context_run_id or not above.is_open):
            above = None
        parent_run_id = self._context_run_id if above is None else above.run_id
        metadata = {**context_metadata(), **self._own_metadata}
        self._token = _innermost.set(self)
        self._start(run_id, parent_run_id, metadata)
        try:
            self._tree = start_own_run(
                run_id,
                None if above is None else above._tree,
                name=self._name,
                run_type=self._run_type,
                inputs=self._inputs(),
                metadata=metadata,
                tags=self._tags,
            )
        except Exception:
            self._host.on_failure("langsmith", run_id)

    def _close(self, exc: BaseException | None) -> None:
        run_id, tree = self._run_id, self._tree
        self._tree = None
        self._reset()
        if run_id is None:
            return
        outcome = self._end(run_id, exc)
        if tree is not None:
            error = None if outcome.status == "success" else repr(exc) if exc is not None else "Cancelled"
            try:
                end_own_run(tree, outputs=self._outputs(), error=error)
            except Exception:
                self._host.on_failure("langsmith", run_id)

    def _reset(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            with suppress(ValueError):  # a generator can be closed in another context
                _innermost.reset(token)

    @property
    def is_open(self) -> bool:
        """Whether the block is entered and not yet left."""
        return self._run_id is not None and self._host.tracker.is_open(self._run_id)

    @abstractmethod
    def _start(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any]) -> None: ...

    @abstractmethod
    def _end(self, run_id: UUID, exc: BaseException | None) -> Outcome: ...

    @abstractmethod
    def _inputs(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def _outputs(self) -> Mapping[str, Any]: ...


# The block that this code runs in.
_innermost: ContextVar[_OwnRun | None] = ContextVar("eco2_own_run", default=None)


class SDKCall(_OwnRun):
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


class ToolRun(_OwnRun):
    """One run of a tool that is no LangChain tool. ``Eco2CallbackHandler.tool`` makes it."""

    _callback = "tool"
    _run_type = "tool"

    def __init__(
        self,
        host: OwnRunHost,
        *,
        name: str,
        inputs: Mapping[str, Any] | str,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
    ) -> None:
        super().__init__(host, name=name, metadata=metadata, tags=tags)
        self._given = inputs
        self._returned: Any = None

    def returned(self, output: _T) -> _T:
        """Take what the tool returned, for its run on LangSmith, and return it."""
        self._returned = output
        return output

    def _start(self, run_id: UUID, parent_run_id: UUID | None, metadata: dict[str, Any]) -> None:
        self._returned = None
        given = self._given if isinstance(self._given, str) else repr(dict(self._given)) if self._given else ""
        self._host.tracker.start_tool(run_id, parent_run_id, metadata, self._name, input_text=given, is_retriever=False)

    def _end(self, run_id: UUID, exc: BaseException | None) -> Outcome:
        outcome = SUCCESS if exc is None else outcome_of(exc)
        self._host.tracker.end(run_id, outcome)
        return outcome

    def _inputs(self) -> Mapping[str, Any]:
        return {"input": self._given} if isinstance(self._given, str) else dict(self._given)

    def _outputs(self) -> Mapping[str, Any]:
        return {} if self._returned is None else {"output": self._returned}


@lru_cache(maxsize=256)
def _serialized(base_url: str | None) -> dict[str, Any]:
    """Return a model's serialized form with its address, one object for each address: who serves it is cached by it."""
    return {"kwargs": {} if base_url is None else {"base_url": base_url}}


def _parsed(response: Any) -> Any:
    """Return the answer inside a raw HTTP response of the SDK (``with_raw_response``)."""
    parse = getattr(response, "parse", None)
    return parse() if callable(parse) and hasattr(response, "http_response") else response
