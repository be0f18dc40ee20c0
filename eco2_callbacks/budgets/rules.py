"""BudgetRule: what may be spent, by whom, in which window, and what happens at the limit."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from eco2_callbacks.budgets.money import to_nano
from eco2_callbacks.budgets.windows import Period, Window, read_window
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import cleaned
from eco2_callbacks.runs import plain_text

__all__ = ["SELECTORS", "Action", "BudgetRule", "account_key", "comparable", "read_usd"]

Action: TypeAlias = Literal["refuse", "warn"]
# What a rule can select calls by, besides any key of the metadata.
SELECTORS = (
    *("tenant_id", "user_id", "session_id", "job_id", "feature", "prompt_version"),
    *("agent_name", "intent", "node", "provider", "model"),
)
_WILDCARDS = frozenset("*?[")
_DEFAULT_LEVELS = (Decimal("0.8"),)
_MAX_USD = Decimal(1_000_000_000)
_MAX_NAME = 500
# PostgreSQL indexes the key of an account, with its owner at most 2,704 bytes.
_MAX_KEY = 600


class _Compiled(NamedTuple):
    """What is worked out from a rule once.

    Attributes:
        span: The window.
        limit_nano: The limit in nanodollars.
        patterns: Key, exact values and patterns of each condition.
    """

    span: Window
    limit_nano: int
    patterns: tuple[tuple[str, frozenset[str], tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetRule:
    """One budget.

    Attributes:
        name: Its name in errors, metrics and events.
        limit_usd: What may be spent in one window, in US dollars.
        window: ``run``, ``hour``, ``day``, ``week``, ``month``, or a rolling one such as ``rolling 24h``.
        timezone: Zone of the calendar, such as ``Asia/Seoul``.
        match: Which calls count: each key is one of ``SELECTORS`` or of the metadata, each value one text or several. A
            text may be a pattern (``gpt-5*``). All keys must match. Without keys every call counts.
        per: Keys whose values have a budget each: ``("user_id",)`` gives every user one of this size. A call without
            such a value does not count.
        warn_at: Shares of the limit at which a warning event is sent.
        action: ``refuse`` a call that could exceed the limit, or only ``warn``.

    Raises:
        ConfigError: If an argument cannot be used, or the rule can match no call.
    """

    name: str
    limit_usd: Decimal
    window: str = "month"
    timezone: str = "UTC"
    match: Mapping[str, str | Sequence[str]] = field(default_factory=dict)
    per: Sequence[str] = ()
    warn_at: Sequence[Decimal] = _DEFAULT_LEVELS
    action: Action = "refuse"
    _compiled: _Compiled = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.strip():
            raise ConfigError(f"A budget has the name {self.name!r}, wanted a text; give each budget its own name.")
        if len(self.name) > _MAX_NAME or not _is_storable(self.name):
            raise ConfigError(
                f"A budget has the name {self.name[:80]!r}, wanted at most {_MAX_NAME} characters that a store can "
                "keep: no NUL, and no half of a surrogate pair; shorten or correct it."
            )
        where = f"Budget {self.name!r}"
        limit_usd = read_usd(self.limit_usd, f"{where} has limit_usd =")
        if self.action not in get_args(Action):
            raise ConfigError(f"{where} has action = {self.action!r}, wanted 'refuse' or 'warn'; correct it.")
        try:
            span = read_window(self.window, self.timezone)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        per = _keys(self.per, where)
        if span.kind == "run" and per:
            raise ConfigError(f"{where} has per = {list(per)!r} and window = 'run'; a run is one budget, remove per.")
        levels = tuple(sorted(_level(level, where) for level in _items(self.warn_at, f"{where} has warn_at =")))
        for name, value in (
            ("limit_usd", limit_usd),
            ("per", per),
            ("warn_at", levels),
            ("_compiled", _Compiled(span, to_nano(limit_usd), _patterns(self.match, where))),
        ):
            object.__setattr__(self, name, value)

    @property
    def span(self) -> Window:
        """The window, read."""
        return self._compiled.span

    @property
    def limit_nano(self) -> int:
        """The limit in nanodollars."""
        return self._compiled.limit_nano

    @property
    def patterns(self) -> tuple[tuple[str, frozenset[str], tuple[str, ...]], ...]:
        """Key, exact values and patterns of each condition."""
        return self._compiled.patterns

    def scope_of(self, value_of: Callable[[str], Any]) -> str | None:
        """Return the scope that a call counts in: ``""`` for a rule without ``per``; None if it does not count.

        Values count as a ledger keeps them, so that a window is found again in its rows.

        Args:
            value_of: Returns the call's value of a key; the metadata's keys too.
        """
        for key, exact, patterns in self._compiled.patterns:
            value = comparable(value_of(key))
            if value not in exact and not (value and any(fnmatchcase(value, pattern) for pattern in patterns)):
                return None
        if not self.per:
            return ""
        parts = []
        for key in self.per:
            value = comparable(value_of(key))
            if not value:
                return None
            parts.append(f"{key}={value}")
        return ",".join(parts)


def account_key(rule: BudgetRule, scope: str, period: Period) -> str:
    """Return what names the account of a scope in a store: a long scope is replaced by its digest."""
    key = f"{rule.name}|{scope}|{rule.span.name}|{period.key}"
    if len(key) <= _MAX_KEY:
        return key
    digest = hashlib.blake2b(scope.encode(), digest_size=16).hexdigest()
    return f"{rule.name}|#{digest}|{rule.span.name}|{period.key}"


def comparable(value: object) -> str:
    """Return a call's value as rules compare it: as text that a store can keep; ``""`` for no plain value."""
    return cleaned(plain_text(value)) or ""


def read_usd(value: object, where: str) -> Decimal:
    """Return dollars of 0 or more as a Decimal; a float counts as it is written.

    Raises:
        ConfigError: If it is no such number; ``where`` begins the sentence.
    """
    usd = Decimal("nan")
    if isinstance(value, int | float | str | Decimal) and not isinstance(value, bool):
        with suppress(InvalidOperation):
            usd = Decimal(str(value))
    if not usd.is_finite() or not 0 <= usd <= _MAX_USD:
        shown = value if isinstance(value, Decimal) else repr(value)
        raise ConfigError(f"{where} {shown}, wanted dollars from 0 to {_MAX_USD}; correct it.")
    return usd


def _level(value: object, where: str) -> Decimal:
    try:
        level = Decimal("nan") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        level = Decimal("nan")
    if not level.is_finite() or not 0 < level <= 1:
        raise ConfigError(f"{where} has warn_at {value!r}, wanted shares above 0 and up to 1, such as 0.8; correct it.")
    return level


def _items(value: object, where: str) -> Sequence[object]:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        return (value,)
    raise ConfigError(f"{where} {value!r}, wanted a list such as [0.5, 0.8]; correct it.")


def _keys(value: object, where: str) -> tuple[str, ...]:
    keys = (value,) if isinstance(value, str) else value
    if not isinstance(keys, list | tuple) or not all(
        isinstance(key, str) and key.strip() and _is_storable(key) for key in keys
    ):
        raise ConfigError(f"{where} has per = {value!r}, wanted keys such as 'user_id'; correct it.")
    if len(set(keys)) < len(keys):
        raise ConfigError(f"{where} has per = {value!r} with a key twice; remove one.")
    return tuple(keys)


def _patterns(match: object, where: str) -> tuple[tuple[str, frozenset[str], tuple[str, ...]], ...]:
    if not isinstance(match, Mapping):
        raise ConfigError(f"{where} has match = {match!r}, wanted a table such as {{tenant_id = 'acme'}}; correct it.")
    found = []
    for key, value in match.items():
        wanted = (value,) if isinstance(value, str) else value
        if not isinstance(key, str) or not key.strip() or not isinstance(wanted, list | tuple | set | frozenset):
            raise ConfigError(f"{where} matches {key!r} = {value!r}, wanted a text or a list of texts; correct it.")
        if not wanted or not all(isinstance(text, str) and comparable(text).strip() for text in wanted):
            raise ConfigError(
                f"{where} matches {key!r} = {value!r}: no call has such a value, so the rule matches nothing. Name a "
                "value, or leave the key out to match every call."
            )
        texts = [comparable(text) for text in wanted]
        exact = frozenset(text for text in texts if not _WILDCARDS & set(text))
        found.append((key, exact, tuple(text for text in texts if text not in exact)))
    return tuple(found)


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
