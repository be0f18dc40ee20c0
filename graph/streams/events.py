"""The events of a job's stream, and their position in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, Self, TypeAlias

__all__ = ["CANCELLED", "START", "EventKind", "Position", "StreamEvent"]

EventKind: TypeAlias = Literal["queued", "started", "node", "call", "token", "snapshot", "done", "error"]


class Position(NamedTuple):
    """Where an event stands in its stream: the job's run, and the number of the event in that run.

    Positions grow through the life of a job. Run 0 is the queue; each worker that starts the job begins a new run.
    """

    run: int
    seq: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``run-seq``.

        Raises:
            ValueError: If the text is no position.
        """
        run, dash, seq = text.partition("-")
        if not (dash and run.isascii() and run.isdigit() and seq.isascii() and seq.isdigit() and len(text) <= 40):
            raise ValueError(f"{text[:40]!r} is no event id, wanted 'run-number' such as '1-17'")
        return cls(int(run), int(seq))

    def __str__(self) -> str:
        return f"{self.run}-{self.seq}"

    def is_followed_by(self, other: Position) -> bool:
        """Return whether no event can stand between these two."""
        if other.run == self.run:
            return other.seq == self.seq + 1
        return other.run > self.run and other.seq == 0


START = Position(0, 0)
"""Before the first event, which is ``0-1``."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event of a job.

    ==============  ================================================================================
    kind            data
    ==============  ================================================================================
    ``queued``      nothing
    ``started``     nothing; the run is in the position. A reader forgets the tokens of earlier runs.
    ``node``        ``id``, ``node``, ``status``: ``started`` or ``ended``, ``at_seconds`` of its start since the
                    question; when ended ``outcome``, ``seconds``, ``usd`` (None while unknown), ``tokens``,
                    ``estimated`` and ``unpriced_calls`` where there are some
    ``call``        a model call, tool or retriever: ``id``, ``node_id``, ``node``, ``type``, ``name``; else as
                    ``node``; ``usd`` is None while unknown
    ``token``       ``node``, ``text``
    ``snapshot``    ``answer`` so far, ``status``; it replaces everything before its position
    ``done``        ``answer``, ``images``, ``intent``, ``seconds`` of the last run, and the figures of all runs:
                    :func:`~graph.streams.figures_of`
    ``error``       ``type``, ``title``, ``detail``, and the same figures
    ==============  ================================================================================
    """

    position: Position
    kind: EventKind
    data: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_last(self) -> bool:
        """Whether no event follows."""
        return self.kind in {"done", "error"}

    def with_figures(self, figures: Mapping[str, Any]) -> StreamEvent:
        """Return the event with what the job has cost."""
        return replace(self, data={**self.data, **figures})

    @property
    def text(self) -> str:
        """What the event adds to the answer."""
        return str(self.data.get("text", "")) if self.kind == "token" else ""

    def to_json(self) -> str:
        """Return the data as JSON, without line breaks."""
        return json.dumps(self.data, ensure_ascii=False, separators=(",", ":"))

    def to_json_with_run(self) -> str:
        """Return the data and the run as JSON, for readers."""
        data = {**self.data, "run": self.position.run}
        return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


CANCELLED = StreamEvent(START, "error", {"type": "cancelled", "title": "The job was cancelled"})
"""The last event of a cancelled job."""
