"""run_config and TelemetryConfig: the config that an application passes to a graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Protocol, TypeAlias
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig

from eco2_callbacks.arguments import check_instance, check_mapping, check_text, check_texts
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.runs import UnreadableError, identifier

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
    max_usd: Decimal | float | str | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> RunnableConfig:
    """Return the config of one request: its name is ``chat:{job_id}``, and the handler measures it.

    LangChain copies tags and metadata to every run below, where LangSmith's filters (``metadata.job_id``) find them.

    Args:
        handler: Measures the request.
        job_id: Id of the request.
        session_id: Id of the conversation; also the ``thread_id`` that a checkpointer needs.
        user_id: Id of the user.
        tenant_id: Id of the tenant that pays.
        intent: Intent of the request, where it is known before the graph sets it.
        max_usd: What the request may cost, in US dollars: a call that could exceed it is refused. A float counts as it
            is written.
        tags: Tags of every run.
        metadata: Further metadata of every run; the arguments above win over the same keys.

    Raises:
        ConfigError: If an argument cannot be used.
    """
    _check_handler(handler)
    config = _bare(
        metadata,
        job_id=job_id,
        session_id=session_id,
        user_id=user_id,
        tenant_id=tenant_id,
        intent=intent,
        **_limit(max_usd),
    )
    config["callbacks"] = _callbacks(handler, has_limit=max_usd is not None)
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
        max_usd: Decimal | float | str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        """Return the config of one request; see the function ``run_config``."""


class LangSmithTelemetry:
    """Configs of requests that the handler measures, with the same tags on all runs.

    ``LANGSMITH_TRACING`` alone decides whether LangSmith traces them.

    Args:
        handler: Measures the requests.
        environment: Where the application runs, such as ``Settings.environment``; the tag is ``env:{environment}``.
        tags: Further tags of every run; a request's own tags follow them.

    Raises:
        ConfigError: If an argument cannot be used.
    """

    def __init__(self, handler: BaseCallbackHandler, *, environment: str = "", tags: Sequence[str] = ()) -> None:
        self._handler = _check_handler(handler)
        check_text("environment", environment, may_be_empty=True)
        self._tags = (*([f"env:{environment}"] if environment else []), *_tags(tags))

    def run_config(
        self,
        *,
        job_id: Identifier,
        session_id: Identifier | None = None,
        user_id: Identifier | None = None,
        tenant_id: Identifier | None = None,
        intent: str | None = None,
        max_usd: Decimal | float | str | None = None,
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
            max_usd=max_usd,
            tags=list(dict.fromkeys((*self._tags, *_tags(tags)))),
            metadata=metadata,
        )


class NoTelemetry:
    """Configs of requests that no handler measures: the no-op twin of ``LangSmithTelemetry``. No limit holds there.

    They hold no callbacks and no tags, but the thread that a checkpointer needs. ``LANGSMITH_TRACING`` still decides
    whether LangSmith traces them.
    """

    def run_config(
        self,
        *,
        job_id: Identifier,
        session_id: Identifier | None = None,
        user_id: Identifier | None = None,
        tenant_id: Identifier | None = None,
        intent: str | None = None,
        max_usd: Decimal | float | str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> RunnableConfig:
        """Return the config of one request: its name, thread and metadata."""
        _tags(tags)  # refuses wrong ones here as well
        return _bare(
            metadata,
            job_id=job_id,
            session_id=session_id,
            user_id=user_id,
            tenant_id=tenant_id,
            intent=intent,
            **_limit(max_usd),
        )


def _callbacks(handler: BaseCallbackHandler, *, has_limit: bool) -> list[BaseCallbackHandler]:
    enable = getattr(handler, "enable_run_limits", None)
    if has_limit and enable is not None:
        enable()
    return list(getattr(handler, "callbacks", None) or [handler])


def _limit(max_usd: Decimal | float | str | None) -> dict[str, str]:
    """Return a request's own limit as metadata: text, as LangSmith takes it."""
    if max_usd is None:
        return {}
    from eco2_callbacks.budgets import RUN_LIMIT, read_usd  # noqa: PLC0415

    return {RUN_LIMIT: format(read_usd(max_usd, "max_usd is"), "f")}


def _bare(metadata: Mapping[str, Any] | None, **named: Identifier | None) -> RunnableConfig:
    texts = {key: text for key, value in named.items() if (text := _text(key, value)) is not None}
    given = check_mapping("metadata", metadata)
    config = RunnableConfig(run_name=f"chat:{texts.get('job_id', '')}", metadata=_copy(given) | texts)
    if "session_id" in texts:
        config["configurable"] = {"thread_id": texts["session_id"]}
    return config


def _check_handler(handler: object) -> BaseCallbackHandler:
    if isinstance(handler, type):
        raise ConfigError(f"handler is the class {handler!r}, wanted an object; pass {handler.__name__}().")
    return check_instance("handler", handler, BaseCallbackHandler, "pass one Eco2CallbackHandler")


def _text(name: str, value: object) -> str | None:
    try:
        return identifier(value)
    except UnreadableError as error:
        raise ConfigError(f"{name}= is {error}, wanted a text, an integer or a UUID; pass its id as text.") from None


def _tags(tags: Sequence[str] | None) -> list[str]:
    return [] if tags is None else list(check_texts("tags", tags))


def _copy(value: Any) -> Any:
    """Return a copy of mappings and lists; the objects inside are the application's and may not be copyable."""
    if isinstance(value, Mapping):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value
