"""Batches: the prompts of each ``generate()``. If one of them is refused, none is sent."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from eco2_callbacks.errors import BudgetExceeded
from eco2_callbacks.runs import current_task

__all__ = ["Batches"]

# More are not decided on at one moment; of one that was cut short, some prompts never come.
_MAX_BATCHES = 1000


class _Batch:
    """One batch.

    Attributes:
        options: What it is known by, held so that no other object gets its id.
        undecided: How many of its prompts were not decided on yet.
        admitted: Its prompts that may be sent.
        refusal: Why none of them is sent; None while they may be.
    """

    __slots__ = ("admitted", "options", "refusal", "undecided")

    def __init__(self, options: object, size: int) -> None:
        self.options = options
        self.undecided = size
        self.admitted: list[UUID] = []
        self.refusal: BudgetExceeded | None = None


class Batches:
    """The batches whose prompts are being decided on.

    LangChain decides on the prompts of a batch one after the other, or each in a task of its own. It passes one object
    as ``options`` with all prompts of a batch, and no other batch has it.
    """

    def __init__(self) -> None:
        self._batches: dict[tuple[object, ...], _Batch] = {}

    def admit(self, kwargs: Mapping[str, Any], run_id: UUID, above: UUID | None) -> BudgetExceeded | None:
        """Note a prompt that may be sent; return the refusal of its batch, if another prompt was refused before it.

        Args:
            kwargs: LangChain's, of the prompt's start.
            run_id: The prompt's.
            above: Its parent's run id.
        """
        batch = self._decide(kwargs, above)
        if batch.refusal is not None:
            return copy.copy(batch.refusal)  # each is raised in a task of its own
        batch.admitted.append(run_id)
        return None

    def end(self, kwargs: Mapping[str, Any], above: UUID | None, error: BaseException) -> list[UUID]:
        """Note that a prompt is not sent; return the earlier prompts of its batch, which are not sent either."""
        batch = self._decide(kwargs, above)
        if isinstance(error, BudgetExceeded):
            batch.refusal = copy.copy(error)  # without its traceback
        admitted, batch.admitted = batch.admitted, []
        return admitted

    def _decide(self, kwargs: Mapping[str, Any], above: UUID | None) -> _Batch:
        options = kwargs.get("options")
        if options is None:  # not LangChain's own models
            options = current_task() or threading.current_thread()
        key = id(options), above
        batch = self._batches.get(key)
        if batch is None:
            if (excess := len(self._batches) + 1 - _MAX_BATCHES) > 0:
                for oldest in list(self._batches)[:excess]:
                    self._batches.pop(oldest, None)
            batch = self._batches[key] = _Batch(options, kwargs["batch_size"])
        batch.undecided -= 1
        if batch.undecided <= 0:
            self._batches.pop(key, None)
        return batch
