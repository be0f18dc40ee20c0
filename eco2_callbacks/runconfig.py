"""run_config() and TelemetryConfig: what an application passes to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from eco2_callbacks.attribution import identifier
from eco2_callbacks.errors import ConfigError

__all__ = ["LangSmithTelemetry", "NoTelemetry", "TelemetryConfig", "run_config"]

Identifier: TypeAlias = str | int | UUID


def run_config(
    handler: BaseCallbackHandler,
    *,
    job_id: Identifier,
    session_id: Identifier | None = None,
    user_id: Identifier | None = None,
    tenant_id: Identifier | None = None,
    intent: str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> RunnableConfig:
    """Return the config of one request: named ``chat:{job_id}`` and measured by the handler.

    LangChain hands tags and metadata on to every run below, where LangSmith's filters (``metadata.job_id``) find them.

    Args:
        handler: What measures the request.
        job_id: The request.
        session_id: The conversation: also the ``thread_id`` that a checkpointer needs.
        user_id: Who asks.
        tenant_id: Who pays.
        intent: What is asked for, where it is known before the graph says so.
        tags: Tags of every run.
        metadata: Further metadata of every run; the arguments above win over the same keys.

    Raises:
        ConfigError: If ``tags`` is a single string.
    """
    config = _bare(metadata, job_id=job_id, session_id=session_id, user_id=user_id, tenant_id=tenant_id, intent=intent)
    config["callbacks"] = [handler]
    config["tags"] = _tags(tags)
    return config


class TelemetryConfig(Protocol):
    """Makes the config of a request, for applications that keep telemetry behind a port."""

    def run_config(
        self,
        *,
        job_id: Identifier,
        session_id: Identifier | None = None,
        user_id: Identifier | None = None,
        tenant_id: Identifier | None = None,
        intent: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        """Return the config of one request; see the function of the same name."""


class LangSmithTelemetry:
    """Requests measured by the handler, with the same tags on all their runs.

    Whether LangSmith traces them is its own switch, ``LANGSMITH_TRACING``.

    Args:
        handler: What measures the requests.
        environment: Where the application runs, such as ``Settings.environment``: the tag ``env:{environment}``.
        tags: Further tags of every run; those of a request come after them.

    Raises:
        ConfigError: If ``tags`` is a single string.
    """

    def __init__(self, handler: BaseCallbackHandler, *, environment: str = "", tags: Sequence[str] = ()) -> None:
        self._handler = handler
        self._tags = (*([f"env:{environment}"] if environment else []), *_tags(tags))

    def run_config(
        self,
        *,
        job_id: Identifier,
        session_id: Identifier | None = None,
        user_id: Identifier | None = None,
        tenant_id: Identifier | None = None,
        intent: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        """Return the config of one request, the default tags first."""
        return run_config(
            self._handler,
            job_id=job_id,
            session_id=session_id,
            user_id=user_id,
            tenant_id=tenant_id,
            intent=intent,
            tags=list(dict.fromkeys((*self._tags, *_tags(tags)))),
            metadata=metadata,
        )


class NoTelemetry:
    """Requests that no handler measures: without callbacks and tags, but with the thread that a checkpointer needs.

    LangSmith's own switch is another matter: what it traces it still traces.
    """

    def run_config(
        self,
        *,
        job_id: Identifier,
        session_id: Identifier | None = None,
        user_id: Identifier | None = None,
        tenant_id: Identifier | None = None,
        intent: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        """Return the config of one request: its name, thread and metadata."""
        _tags(tags)  # wrong ones are refused here as well
        return _bare(
            metadata, job_id=job_id, session_id=session_id, user_id=user_id, tenant_id=tenant_id, intent=intent
        )


def _bare(metadata: Mapping[str, Any] | None, **named: Identifier | None) -> RunnableConfig:
    texts = {key: text for key, value in named.items() if (text := _text(value)) is not None}
    config = RunnableConfig(run_name=f"chat:{texts.get('job_id', '')}", metadata=_copy(metadata or {}) | texts)
    if "session_id" in texts:
        config["configurable"] = {"thread_id": texts["session_id"]}
    return config


def _text(value: object) -> str | None:
    return identifier(value.value if isinstance(value, Enum) else value)


def _tags(tags: Sequence[str] | None) -> list[str]:
    if isinstance(tags, str):
        raise ConfigError(f"tags is {tags!r}, wanted a list of strings; pass [{tags!r}].")
    return list(tags or ())


def _copy(value: Any) -> Any:
    """Return a copy down to the objects inside: those are the application's, and may not be copyable."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
