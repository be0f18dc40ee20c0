"""Windows: the stretch of time over which a budget adds up what was spent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from eco2_callbacks.errors import ConfigError

__all__ = ["ROLLING_BUCKETS", "Period", "Window", "WindowKind", "read_window"]

WindowKind: TypeAlias = Literal["run", "hour", "day", "week", "month", "rolling"]

# A rolling window adds up this many buckets and the one that is filling, so it reaches back at most 1/60 too far.
ROLLING_BUCKETS = 60
_CALENDAR = ("hour", "day", "week", "month")
_ROLLING = re.compile(r"rolling[ :](\d+)([mhd])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400}
_MIN_ROLLING_SECONDS, _MAX_ROLLING_SECONDS = 60, 400 * 86_400
_WANTED = "wanted 'run', 'hour', 'day', 'week', 'month', or 'rolling 24h' (m, h or d; from 1m to 400d)"


class Period(NamedTuple):
    """One period of a window.

    Attributes:
        key: Names the period: its start for a calendar window, ``""`` for a rolling one, which has only one.
        bucket: Number of the bucket that is filling now; 0 for a calendar window.
        oldest: Number of the oldest bucket that still counts.
        start: When what counts began; None for a run.
        end: When the window begins anew, or a rolling window's filling bucket ends; None for a run.
    """

    key: str
    bucket: int
    oldest: int
    start: datetime | None
    end: datetime | None


_RUN = Period("run", 0, 0, None, None)


@dataclass(frozen=True, slots=True)
class Window:
    """A window, in a time zone where it follows the calendar.

    Attributes:
        kind: ``run`` is one request from its root on; weeks begin on Monday.
        timezone: Zone of the calendar.
        seconds: Length of a rolling window; 0 for any other.
    """

    kind: WindowKind
    timezone: tzinfo = UTC
    seconds: int = 0

    @property
    def name(self) -> str:
        """The window as it is written in ``budgets.toml``."""
        if self.kind != "rolling":
            return self.kind
        unit = next(unit for unit in "dhm" if self.seconds % _SECONDS[unit] == 0)
        return f"rolling {self.seconds // _SECONDS[unit]}{unit}"

    @property
    def bucket_seconds(self) -> float:
        """Length of one bucket of a rolling window."""
        return self.seconds / ROLLING_BUCKETS

    def period(self, now: datetime) -> Period:
        """Return the period that holds at a time with a zone."""
        if self.kind == "run":
            return _RUN
        if self.kind == "rolling":
            bucket = int(now.timestamp() // self.bucket_seconds)
            oldest = bucket - ROLLING_BUCKETS
            return Period("", bucket, oldest, self._at(oldest), self._at(bucket + 1))
        local = now.astimezone(self.timezone)
        if self.kind == "hour":
            # In UTC: an hour of a zone can come twice in a night. Zones differ by whole minutes.
            past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
            start = (now.astimezone(UTC) - past).replace(microsecond=0)
            end = start + timedelta(hours=1)
        else:
            first = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0, tzinfo=None)
            if self.kind == "day":
                following = first + timedelta(days=1)
            elif self.kind == "week":
                first -= timedelta(days=first.weekday())
                following = first + timedelta(days=7)
            else:
                first = first.replace(day=1)
                following = (first + timedelta(days=32)).replace(day=1)
            start = first.replace(tzinfo=self.timezone).astimezone(UTC)
            end = following.replace(tzinfo=self.timezone).astimezone(UTC)
        return Period(start.strftime("%Y%m%dT%H%MZ"), 0, 0, start, end)

    def end_of(self, bucket: int) -> datetime:
        """Return when a bucket of a rolling window no longer counts."""
        return self._at(bucket + ROLLING_BUCKETS + 1)

    def _at(self, bucket: int) -> datetime:
        return datetime.fromtimestamp(bucket * self.bucket_seconds, UTC)


def read_window(text: object, timezone: object = "UTC") -> Window:
    """Return the window that a rule names.

    Raises:
        ConfigError: If there is no such window or time zone.
    """
    if not isinstance(timezone, str):
        raise ConfigError(f"timezone is {timezone!r}, wanted a name such as 'Asia/Seoul'; correct it.")
    try:
        zone = UTC if timezone == "UTC" else ZoneInfo(timezone)
    except (OSError, ValueError, LookupError) as error:
        raise ConfigError(
            f"timezone is {timezone!r}, wanted a zone of the IANA database such as 'Asia/Seoul'; correct it, or "
            "install tzdata where the system has no zones."
        ) from error
    if not isinstance(text, str):
        raise ConfigError(f"window is {text!r}, {_WANTED}; correct it.")
    if text == "run":
        return Window("run")
    for kind in _CALENDAR:
        if text == kind:
            return Window(kind, zone)  # type: ignore[arg-type]  # mypy does not narrow to the literal
    if (match := _ROLLING.fullmatch(text)) is not None:
        seconds = int(match[1]) * _SECONDS[match[2]]
        if _MIN_ROLLING_SECONDS <= seconds <= _MAX_ROLLING_SECONDS:
            return Window("rolling", zone, seconds)
    raise ConfigError(f"window is {text!r}, {_WANTED}; correct it.")
