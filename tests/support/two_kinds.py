"""Two handlers on registries of their own: one records every run in its end callback, one records plain runs later."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler
from tests.support.record_sink import Records

__all__ = ["Kind", "handlers_of_two_kinds"]


class Queued(Records):
    """A sink behind a queue."""

    def close(self) -> None: ...


class Kind(NamedTuple):
    """A handler, its registry and its sink."""

    handler: Eco2CallbackHandler
    registry: CollectorRegistry
    records: Records

    def exposition(self) -> str:
        """Return what a scrape shows."""
        return generate_latest(self.registry).decode()


def handlers_of_two_kinds(*, queued: bool = False, **options: Any) -> tuple[Kind, Kind]:
    """Return a handler with an inline sink, and one with a queued sink or none; all times are equal."""
    kinds = []
    for sinks in ([Records()], [Queued()] if queued else []):
        registry = CollectorRegistry()
        handler = Eco2CallbackHandler(
            registry=registry,
            sinks=sinks,
            agent_name="eco2",
            clock=lambda: 0.0,
            now=lambda: datetime(2026, 11, 29, 18, tzinfo=UTC),
            **options,
        )
        kinds.append(Kind(handler, registry, sinks[0] if sinks else Records()))
    return kinds[0], kinds[1]
