"""Periods of a report: what --since, --until and --timezone mean."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger.cells import FIRST_TIME, LAST_TIME

__all__ = ["DEFAULT_DAYS", "Period", "parse_duration"]

DEFAULT_DAYS = 30
_CLOCK_SKEW = timedelta(hours=1)
_DURATION = re.compile(r"(\d{1,6})([hdw])")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}
_DAYS = {"today": timedelta(), "yesterday": timedelta(days=1)}
_WANTED = "a day (2026-11-30, today, yesterday), a time (2026-11-30T14:00) or a duration back from now (24h, 7d, 4w)"
_RANGE = f"from {FIRST_TIME.year} to {LAST_TIME.year - 1}"


@dataclass(frozen=True, slots=True)
class Period:
    """A window of time; ``until`` is the moment after it.

    Attributes:
        ahead: How far ``until`` lies in the future, for calls of machines whose clocks are fast.
    """

    since: datetime
    until: datetime
    timezone: str
    ahead: timedelta = timedelta()

    @classmethod
    def parse(cls, since: str | None, until: str | None, timezone: str, *, now: datetime | None = None) -> Period:
        """Return the period that texts name. A day as ``until`` is included.

        Args:
            since: A day, a time or a duration; None is thirty days before the end.
            until: A day, a time or a duration; None is now.
            timezone: Name of the zone of days and of times without one, as in ``Asia/Seoul``.
            now: The present time.

        Raises:
            ConfigError: If a text names no time that a row can have, the zone is unknown, or the period is empty.
        """
        zone = _zone(timezone)
        now = datetime.now(UTC) if now is None else now
        ahead = _CLOCK_SKEW if until is None else timedelta()
        end = now + ahead if until is None else _moment(until, "until", zone, now, is_end=True)
        begin = (
            _midnight((end - ahead).astimezone(zone).date() - timedelta(days=DEFAULT_DAYS), zone)
            if since is None
            else _moment(since, "since", zone, now, is_end=False)
        )
        if begin >= end:
            raise ConfigError(
                f"The period is empty: it begins at {begin.isoformat()} and ends at {end.isoformat()}; "
                "give a --since before --until."
            )
        return cls(begin, end, timezone, ahead)

    def before(self) -> Period:
        """Return the period of the same length before this one, as far as rows can go back."""
        length = self.until - self.ahead - self.since
        return Period(max(self.since - length, FIRST_TIME), self.since, self.timezone)

    def whole_days(self) -> Period:
        """Return the same period with its first and its last day as whole days of the zone."""
        zone = _zone(self.timezone)
        first, last = (at.astimezone(zone).date() for at in (self.since, self.until - timedelta(microseconds=1)))
        return Period(_midnight(first, zone), _midnight(last + timedelta(days=1), zone), self.timezone)

    def has_whole_hours(self) -> bool:
        """Return whether all local days in it begin with an hour of UTC, so that hourly sums can be used."""
        zone = _zone(self.timezone)
        day = self.since
        while day < self.until + timedelta(days=1):
            if day.astimezone(zone).utcoffset() % timedelta(hours=1):  # type: ignore[operator]
                return False
            day += timedelta(days=1)
        return True

    def whole_hours(self) -> tuple[datetime, datetime]:
        """Return the first and the last hour of UTC that begin inside; equal if there is no whole hour."""
        first = self.since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        if first < self.since:
            first += timedelta(hours=1)
        last = self.until.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        return first, max(first, last)


def parse_duration(text: str) -> timedelta:
    """Return a duration such as ``400d``.

    Raises:
        ConfigError: If the text is none.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"The duration is {text!r}, wanted hours, days or weeks: 24h, 400d, 8w.")
    return int(found.group(1)) * _UNITS[found.group(2)]


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            f"The time zone is {name!r}, wanted a name of the IANA database such as 'Asia/Seoul' or 'UTC'; on a system "
            "without one install the package tzdata."
        ) from error


def _moment(text: str, option: str, zone: ZoneInfo, now: datetime, *, is_end: bool) -> datetime:
    try:
        found = _read(text.strip(), zone, now, is_end=is_end)
        # An end is the moment after the last one.
        is_possible = FIRST_TIME <= found <= LAST_TIME
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"--{option} is {text.strip()!r}, wanted {_WANTED}, {_RANGE}.") from error
    if not is_possible:
        raise ConfigError(f"--{option} is {text.strip()!r}, wanted {_WANTED}, {_RANGE}.")
    return found


def _read(text: str, zone: ZoneInfo, now: datetime, *, is_end: bool) -> datetime:
    if _DURATION.fullmatch(text):
        return now - parse_duration(text)
    if text in _DAYS:
        text = (now.astimezone(zone).date() - _DAYS[text]).isoformat()
    with suppress(ValueError):
        day = date.fromisoformat(text)
        return _midnight(day + timedelta(days=1) if is_end else day, zone)
    found = datetime.fromisoformat(text)
    return found if found.tzinfo is not None else found.replace(tzinfo=zone)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), tzinfo=zone)
