"""LedgerMetrics: what becomes of the records of a ledger, on the registry of a handler."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from typing import Any
from weakref import WeakMethod

from prometheus_client import CollectorRegistry

from eco2_callbacks.prometheus.families import Family
from eco2_callbacks.prometheus.instruments import instruments_of

__all__ = ["LEDGER_FAMILIES", "LedgerMetrics"]

LEDGER_FAMILIES: tuple[Family, ...] = (
    Family("ledger_rows_total", "counter", ("backend",), "Records stored in the ledger."),
    Family(
        "ledger_lag_seconds",
        "gauge",
        ("backend",),
        "Age of the oldest record that is not in the ledger; 0 if none.",
        is_setting=True,
    ),
    Family("ledger_lost_rows_total", "counter", ("backend", "reason"), "Records that the ledger could not keep."),
)
_REASONS = ("overflow", "disk_full", "corrupt")


class LedgerMetrics:
    """Counts what one ledger stores and loses. The families appear with the first ledger on a registry.

    Args:
        registry: Registry of the metrics.
        backend: Name of the backend.
        lag_seconds: A bound method that returns the ledger's lag.
        on_failure: Called when a record cannot be written at all.
    """

    def __init__(
        self,
        registry: CollectorRegistry,
        backend: str,
        *,
        lag_seconds: Callable[[], float],
        on_failure: Callable[[str], None],
    ) -> None:
        self._instruments = instruments_of(registry)
        self._instruments.add_families(LEDGER_FAMILIES)
        self._backend = backend
        # Weak: the instruments live as long as the registry, and a sink must not.
        self._lag_seconds: Callable[[], Any] = WeakMethod(lag_seconds)
        self._on_failure = on_failure
        self._instruments.counter("ledger_rows_total").labels(backend=backend)
        for reason in _REASONS:
            self._instruments.counter("ledger_lost_rows_total").labels(backend=backend, reason=reason)
        self._instruments.gauge("ledger_lag_seconds").labels(backend=backend).set(0)
        self._instruments.before_flush(self._update_lag)

    def on_stored(self, backend: str, records: int) -> None:
        """Count stored records."""
        self._instruments.enqueue(self._count_stored, (backend, records))
        if not self._instruments.waits:
            self._update_lag()

    def on_lost(self, backend: str, records: int, reason: str) -> None:
        """Count lost records."""
        self._instruments.enqueue(self._count_lost, (backend, records, reason))
        if not self._instruments.waits:
            self._update_lag()

    def on_failure(self) -> None:
        """Count a record that cannot be written at all as an error of the handler."""
        self._on_failure("emit")

    def _count_stored(self, stored: Sequence[tuple[str, int]]) -> None:
        sums: Tally[str] = Tally()
        for backend, records in stored:
            sums[backend] += records
        for backend, records in sums.items():
            self._instruments.counter("ledger_rows_total").labels(backend=backend).inc(records)

    def _count_lost(self, lost: Sequence[tuple[str, int, str]]) -> None:
        for backend, records, reason in lost:
            self._instruments.counter("ledger_lost_rows_total").labels(backend=backend, reason=reason).inc(records)

    def _update_lag(self) -> None:
        lag_seconds = self._lag_seconds()
        if lag_seconds is not None:
            # Enqueued: a gauge that moves while the process forks stays locked in the child.
            self._instruments.enqueue(self._set_lag, lag_seconds())

    def _set_lag(self, lags: Sequence[float]) -> None:
        self._instruments.gauge("ledger_lag_seconds").labels(backend=self._backend).set(lags[-1])
