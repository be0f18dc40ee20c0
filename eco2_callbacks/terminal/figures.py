"""The figures of requests and the runs below them: values without drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from eco2_callbacks.pricing import Cost
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, Status, ToolCall
from eco2_callbacks.usage import TokenUsage

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
    def sum(cls, records: Iterable[Record]) -> Figures:
        """Return the sum over these runs; tools and retrievers have durations only."""
        records = list(records)
        spending = [record for record in records if not isinstance(record, ToolCall | RetrieverCall)]
        return cls(
            runs=len(records),
            seconds=sum(record.duration_seconds for record in records),
            usage=TokenUsage.sum(record.usage for record in spending if record.usage is not None),
            cost=Cost.sum(record.cost for record in spending if record.cost is not None),
            estimated=any(record.estimated for record in spending),
            unpriced_calls=sum(_unpriced_calls(record) for record in spending),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run below a request: a node, or a model call, tool or retriever outside of nodes.

    ``started_seconds`` counts from the start of the request. The figures of a running row hold only its seconds so far.
    A node's figures include those of the ``rows`` below it.
    """

    name: str
    step: int | None = None
    started_seconds: float
    status: RowStatus = "running"
    error_type: str | None = None
    figures: Figures
    rows: tuple[Row, ...] = ()

    @property
    def ended_seconds(self) -> float:
        """When the run ended; for a running one, now."""
        return self.started_seconds + self.figures.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request, or one run outside of any request, with what ran below it in the order of the starts.

    ``name`` is the intent where there is one, else the agent's, model's or tool's name.
    """

    name: str = ""
    intent: str = UNCLASSIFIED
    status: RowStatus = "running"
    error_type: str | None = None
    figures: Figures
    rows: tuple[Row, ...] = ()
    first_token_seconds: float | None = None


def group_by_step(rows: Iterable[Row]) -> list[tuple[Row, ...]]:
    """Return the rows, in order of their starts, grouped where rows of one graph step ran beside each other.

    The step alone is not enough: graphs that a node calls one after the other count their steps anew, and all tasks of
    an entrypoint have its step.
    """
    groups: list[list[Row]] = []
    # By step: its newest group, and when the last row of it ended.
    newest: dict[int, tuple[list[Row], float]] = {}
    for row in rows:
        group, end = ([], 0.0) if row.step is None else newest.get(row.step, ([], 0.0))
        # Rows that took no time at all start together.
        if group and (row.started_seconds < end or row.started_seconds == group[-1].started_seconds):
            group.append(row)
        else:
            group, end = [row], 0.0
            groups.append(group)
        if row.step is not None:
            newest[row.step] = group, max(end, row.ended_seconds)
    return [tuple(group) for group in groups]


def saved_seconds(rows: Sequence[Row]) -> float:
    """Return the time saved by running these rows in parallel: the sum of their durations minus the time covered."""
    covered = end = 0.0
    for row in sorted(rows, key=lambda row: row.started_seconds):
        covered += max(0.0, row.ended_seconds - max(end, row.started_seconds))
        end = max(end, row.ended_seconds)
    return max(0.0, sum(row.figures.seconds for row in rows) - covered)


def _unpriced_calls(record: NodeRun | GraphRun | LLMCall) -> int:
    return int(record.unpriced_reason is not None) if isinstance(record, LLMCall) else record.unpriced_calls
