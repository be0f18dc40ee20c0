"""Report: what calls consumed and cost in a period, by any of their dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

import sqlalchemy as sa

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.coverage import read_coverage
from eco2_callbacks.ledger.figures import Figures
from eco2_callbacks.ledger.groups import DIMENSIONS, PERIODS, GroupReader, Key
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.rollups import Progress, Rollups
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.pricing import EXACT

__all__ = ["DIMENSIONS", "Group", "Mover", "Report", "make_report"]

_MAX_MOVERS = 5


@dataclass(frozen=True, slots=True)
class Group:
    """One row of a report: the values of the dimensions, and the figures."""

    key: Key
    figures: Figures


@dataclass(frozen=True, slots=True)
class Mover:
    """A group whose cost changed against the period before, without its dates."""

    key: Key
    now: Figures
    before: Figures

    @property
    def change_usd(self) -> Decimal:
        """Now minus before; leaves out ``unpriced_calls``."""
        return EXACT.subtract(self.now.cost, self.before.cost)

    @property
    def unpriced_calls(self) -> int:
        """Calls of both periods whose dollars are unknown."""
        return self.now.unpriced_calls + self.before.unpriced_calls

    @property
    def change_share(self) -> Decimal | None:
        """The change as a share of the cost before; None where that was nothing, or dollars are unknown."""
        if self.unpriced_calls or not self.before.cost:
            return None
        return EXACT.divide(self.change_usd, self.before.cost)

    @property
    def is_new(self) -> bool:
        """Whether the group is known to have cost nothing before."""
        return not self.before.cost and not self.before.unpriced_calls


@dataclass(frozen=True, slots=True)
class Report:
    """A report.

    Attributes:
        by: The dimensions of the groups.
        groups: The dearest first; by date, if the first dimension is one. A call with several tags is in several.
        total: All calls once.
        movers_by: The dimensions of the movers.
        movers: The greatest changes of cost first; none where the ledger covers less than half of the period before.
        began: When the ledger began, if that is inside the period before; else None.
    """

    by: tuple[str, ...]
    period: Period
    groups: tuple[Group, ...]
    total: Figures
    movers_by: tuple[str, ...]
    movers: tuple[Mover, ...]
    began: datetime | None = None


def make_report(
    backend: Backend,
    by: Sequence[str],
    period: Period,
    *,
    progress: Progress | None = None,
    is_read_only: bool = False,
) -> Report:
    """Return the report of a period.

    Args:
        backend: The ledger's backend.
        by: Some of ``DIMENSIONS``.
        period: The period.
        progress: Told how many changed hours are summed up.
        is_read_only: Whether nothing may be written: the calls themselves are read, and not their hourly sums.

    Raises:
        ConfigError: If a dimension is unknown or given twice.
        LedgerError: If there is no ledger, or it has no calls in the period.
    """
    by = tuple(by)
    if unknown := [name for name in by if name not in DIMENSIONS]:
        raise ConfigError(f"--by is {unknown[0]!r}, wanted some of {', '.join(DIMENSIONS)}.")
    if len(set(by)) != len(by) or sum(name in PERIODS for name in by) > 1:
        raise ConfigError(f"--by is {', '.join(by)!r}, wanted each dimension once, and one of {', '.join(PERIODS)}.")
    Schema(backend).require()
    reader = GroupReader(backend, uses_rollups=not is_read_only)
    movers_by = tuple(name for name in by if name not in PERIODS) or ("model",)
    earlier = period.before()
    if not is_read_only:
        Rollups(backend).refresh(earlier.since, period.until, progress=progress)
    groups = reader.groups(by, period)
    total = reader.total(groups, by, period)
    if not total.calls:
        raise LedgerError(_empty(backend, period))
    now = groups if movers_by == by else reader.groups(movers_by, period)
    before = reader.groups(movers_by, earlier)
    with backend.engine().connect() as connection:
        coverage = read_coverage(connection, earlier)
    is_dated = bool(by) and by[0] in PERIODS
    ordered = sorted(
        groups.items(),
        key=lambda item: (item[0][0] if is_dated else "", EXACT.minus(item[1].cost), -item[1].calls, item[0]),
    )
    movers = [Mover(key, now.get(key, Figures()), before.get(key, Figures())) for key in {**now, **before}]
    movers = [mover for mover in movers if mover.change_usd]
    movers.sort(key=lambda mover: (EXACT.minus(mover.change_usd.copy_abs()), mover.key))
    return Report(
        by,
        period,
        tuple(Group(key, figures) for key, figures in ordered),
        total,
        movers_by,
        tuple(movers[:_MAX_MOVERS]) if coverage.suffices else (),
        coverage.began,
    )


def _empty(backend: Backend, period: Period) -> str:
    calls = table("calls")
    with backend.engine().connect() as connection:
        number = connection.execute(sa.select(sa.func.count()).select_from(calls)).scalar_one()
        first, last = connection.execute(
            sa.select(sa.func.min(calls.c.started_at), sa.func.max(calls.c.started_at))
        ).one()
    shown = f"The ledger {backend.shown_url} has no calls from {_shown(period.since)} to {_shown(period.until)}"
    if not number:
        return f"{shown}, and none at all; run an application with this ledger first."
    return f"{shown}; it has {number} from {_shown(first)} to {_shown(last)}. Choose --since and --until to match."


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
