"""The figures of requests and nodes: values without drawing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from eco2_callbacks import Cost, GraphRun, LLMCall, NodeRun, TokenUsage
from eco2_callbacks.records import Status

__all__ = ["UNCLASSIFIED", "Figures", "Row", "Trace", "group_by_step", "saved_seconds"]

RowStatus: TypeAlias = Status | Literal["running"]
UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Duration, tokens and cost of one or more runs."""

    runs: int = 0
    seconds: float = 0.0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: Cost = field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0

    @classmethod
    def sum(cls, runs: Iterable[NodeRun | GraphRun | LLMCall]) -> Figures:
        """Return the sum over these runs."""
        runs = list(runs)
        return cls(
            runs=len(runs),
            seconds=sum(run.duration_seconds for run in runs),
            usage=TokenUsage.sum(run.usage for run in runs if run.usage is not None),
            cost=Cost.sum(run.cost for run in runs if run.cost is not None),
            estimated=any(run.estimated for run in runs),
            unpriced_calls=sum(_unpriced_calls(run) for run in runs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of a node. ``started_seconds`` counts from the start of the request.

    The figures of a running node contain only its seconds so far.
    """

    node: str
    step: int | None = None
    started_seconds: float
    status: RowStatus = "running"
    error_type: str | None = None
    figures: Figures

    @property
    def ended_seconds(self) -> float:
        """When the run ended; for a running node, now."""
        return self.started_seconds + self.figures.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request with its nodes in the order of their starts. ``answer`` is the streamed part so far."""

    intent: str = UNCLASSIFIED
    status: RowStatus = "running"
    error_type: str | None = None
    figures: Figures
    rows: tuple[Row, ...] = ()
    answer: str = ""
    first_token_seconds: float | None = None


def group_by_step(rows: Iterable[Row]) -> list[tuple[Row, ...]]:
    """Return the rows grouped by graph step, in order. The nodes of one step started in parallel."""
    by_step: dict[Hashable, list[Row]] = {}
    for row in rows:
        by_step.setdefault(row.step if row.step is not None else id(row), []).append(row)
    return [tuple(step) for step in by_step.values()]


def saved_seconds(rows: Sequence[Row]) -> float:
    """Return the time saved by running these rows in parallel: the sum of their durations minus the time covered."""
    covered = end = 0.0
    for row in sorted(rows, key=lambda row: row.started_seconds):
        covered += max(0.0, row.ended_seconds - max(end, row.started_seconds))
        end = max(end, row.ended_seconds)
    return max(0.0, sum(row.figures.seconds for row in rows) - covered)


def _unpriced_calls(run: NodeRun | GraphRun | LLMCall) -> int:
    return int(run.unpriced_reason is not None) if isinstance(run, LLMCall) else run.unpriced_calls
