"""SeriesTable: finds the series of label values, within the bounds that labels have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

from eco2_callbacks.prometheus.instruments import Instruments
from eco2_callbacks.prometheus.label_limiter import exposable
from eco2_callbacks.prometheus.series import Series

__all__ = ["SeriesTable"]

_S = TypeVar("_S", bound=Series)
_MAX_INITIALISED = 10_000


class SeriesTable:
    """The series that one handler counts in.

    Args:
        instruments: The registry's.
        tenants: Tenants that keep their label whatever the cap.
        agents: Agents that keep their label whatever the cap.
        max_label_values: Number of values that a label takes; later ones become ``other``.
        max_tenants: The same for tenants; None is ``max_label_values``.
    """

    def __init__(
        self,
        instruments: Instruments,
        *,
        tenants: Iterable[str],
        agents: Iterable[str],
        max_label_values: int,
        max_tenants: int | None,
    ) -> None:
        self._instruments = instruments
        # Values that the application has named: they are names, and keep their label.
        self._declared = {
            "tenant_id": frozenset(map(exposable, tenants)),
            "agent_name": frozenset(map(exposable, agents)),
        }
        self._cap = max_label_values
        self._tenant_cap = max_label_values if max_tenants is None else max_tenants
        self._series: defaultdict[type, dict[tuple[str, ...], object]] = defaultdict(dict)
        # Label values that were seen at a start; the series of most of them exist.
        self._initialised: defaultdict[type, set[tuple[str, ...]]] = defaultdict(set)

    def init(self, kind: type[Series], *values: str) -> None:
        """Have the series of these label values initialised with the next records."""
        if values not in self._initialised[kind]:
            initialised = self._initialised[kind]
            if len(initialised) >= _MAX_INITIALISED:
                initialised.clear()
            initialised.add(values)
            self._instruments.enqueue(self._init_series, (kind, values))

    def series_for(self, kind: type[_S], *values: str) -> _S:
        """Return the series of these label values; values past the cap share the series of ``other``."""
        known = self._series[kind]
        series = known.get(values)
        if series is None:
            admitted = tuple(map(self.label, kind.LABELS, values))
            # Kept under the admitted values only: the others are unbounded.
            series = known.get(admitted)
            if series is None:
                built = kind(self._instruments, dict(zip(kind.LABELS, admitted, strict=True)), self.label)
                series = known.setdefault(admitted, built)
        return cast("_S", series)

    def label(self, label: str, value: str) -> str:
        """Return a label's value as it is exposed."""
        if (declared := self._declared.get(label)) is not None and exposable(value) in declared:
            return exposable(value)
        return self._instruments.limiter.admit(label, value, self._tenant_cap if label == "tenant_id" else self._cap)

    def _init_series(self, wanted: Sequence[tuple[type[Series], tuple[str, ...]]]) -> None:
        for kind, values in wanted:
            self.series_for(kind, *values)
