"""Who makes a call, as rules select by it: at its start from the run tree, at its end from its record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from eco2_callbacks.budgets.rules import SELECTORS, read_usd
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.log_once import is_first
from eco2_callbacks.records import LLMCall

__all__ = ["RUN_LIMIT", "Caller", "caller_of_record"]

_logger = logging.getLogger(__name__)
# The metadata key of a request's own limit, and the name of that budget.
RUN_LIMIT = "max_usd"
_limits: dict[object, Decimal | None] = {}
_MAX_LIMITS = 1000
# Trace id, where the run tree knows one, and what it knows of ``SELECTORS``.
Labels = tuple[UUID | None, Mapping[str, object]]


class Caller:
    """Who makes a call. What the run tree knows is looked up when a rule asks for it: most rules ask for little.

    Args:
        run_id: The call's run id.
        metadata: Its metadata.
        labels: Returns what the run tree knows of the call; it wins over the metadata, unless it is empty.
        provider: Who is paid.
        model: The requested model.
    """

    __slots__ = ("_labels", "_metadata", "_model", "_provider", "_read", "_run_id", "max_usd")

    def __init__(
        self, run_id: UUID, metadata: Mapping[str, Any], labels: Callable[[], Labels], *, provider: str, model: str
    ) -> None:
        self._run_id = run_id
        self._metadata = metadata
        self._read = labels
        self._labels: Labels | None = None
        self._provider = provider
        self._model = model
        limit = metadata.get(RUN_LIMIT)
        # The request's own limit; None where it has none.
        self.max_usd = None if limit is None else _limit_of(limit)

    @property
    def trace_id(self) -> UUID:
        """Run id of the request; the call's own where it is the topmost run."""
        return self._known()[0] or self._run_id

    def value(self, key: str) -> Any:
        """Return the value of a selector or a key of the metadata; None where there is none."""
        if key == "model":
            return self._model
        if key == "provider":
            return self._provider
        return self._known()[1].get(key) or self._metadata.get(key)

    def values(self, keys: Sequence[str]) -> tuple[Any, ...]:
        """Return the values of several keys."""
        return tuple(map(self.value, keys))

    def _known(self) -> Labels:
        if self._labels is None:
            self._labels = self._read()
        return self._labels


def caller_of_record(record: LLMCall) -> Caller:
    """Return the caller of a call that has ended."""

    def labels() -> Labels:
        return record.trace_id, {key: getattr(record, key, None) for key in SELECTORS}

    # A rule names the model that is requested: the answering one is not known before the call.
    model = record.request_model or record.model
    return Caller(record.run_id, record.metadata, labels, provider=record.provider, model=model)


def _limit_of(value: object) -> Decimal | None:
    """Return a request's own limit; one that is no number is logged once and limits nothing."""
    if isinstance(value, str) and value in _limits:
        return _limits[value]
    limit: Decimal | None = None
    try:
        limit = read_usd(value, f"The metadata {RUN_LIMIT!r} is")
    except ConfigError as error:
        if is_first("max_usd", repr(value)):
            _logger.error("%s Its request has no limit of its own; use run_config(max_usd=...).", error)
    if isinstance(value, str):
        if len(_limits) >= _MAX_LIMITS:
            _limits.clear()
        _limits[value] = limit
    return limit
