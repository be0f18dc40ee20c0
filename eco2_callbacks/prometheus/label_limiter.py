"""LabelLimiter: bounds how many values a label takes."""

from __future__ import annotations

from collections.abc import Callable

from eco2_callbacks.forks import ForkLock
from eco2_callbacks.prometheus.label_texts import is_text

__all__ = ["OTHER", "LabelLimiter", "exposable"]

OTHER = "other"
_MAX_REMEMBERED = 10_000
_MAX_LENGTH = 120


class LabelLimiter:
    """Admits the first values of a label; later ones, and texts, become ``other``.

    Args:
        on_overflow: Called with the label's name for each rejected value, once per value while it is remembered.
    """

    def __init__(self, on_overflow: Callable[[str], None]) -> None:
        self._on_overflow = on_overflow
        self._admitted: dict[str, set[str]] = {}
        self._rejected: dict[str, set[str]] = {}
        self._lock = ForkLock()

    def admit(self, label: str, value: str, cap: int) -> str:
        """Return the value if it is known or there is room for it, else ``other``; ``""`` always fits.

        The value is made fit for the exposition: cut to 120 characters, lone surrogates replaced.
        """
        is_refused = is_text(label, value[: 2 * _MAX_LENGTH])
        value = exposable(value)
        if not value or value == OTHER:
            return value
        with self._lock.held:
            admitted = self._admitted.setdefault(label, set())
            if value in admitted and not is_refused:
                return value
            if len(admitted) < cap and not is_refused:
                admitted.add(value)
                return value
            rejected = self._rejected.setdefault(label, set())
            if value in rejected:
                return OTHER
            if len(rejected) < _MAX_REMEMBERED:
                rejected.add(value)
        self._on_overflow(label)
        return OTHER


def exposable(value: str) -> str:
    """Return a value fit for the exposition: cut to 120 characters, lone surrogates replaced."""
    return value[:_MAX_LENGTH].encode("utf-8", "replace").decode("utf-8")
