"""The exceptions of eco2_callbacks.

    Eco2CallbacksError
    ├── ConfigError (ValueError)          a setting or constructor argument that cannot be used
    │   └── RatesFileError                a file of custom rates that cannot be read
    ├── LedgerError (RuntimeError)        a ledger that cannot be opened, read or changed
    ├── UnknownModelError (LookupError)   a model without a known price
    └── UsageError (ValueError)           token counts that contradict each other

Only constructors and direct calls raise. Inside a LangChain callback the handler logs and counts instead.
"""

from __future__ import annotations

from typing import Self

__all__ = ["ConfigError", "Eco2CallbacksError", "LedgerError", "RatesFileError", "UnknownModelError", "UsageError"]


class Eco2CallbacksError(Exception):
    """Base class of all exceptions of this package."""


class ConfigError(Eco2CallbacksError, ValueError):
    """A setting or constructor argument cannot be used."""


class RatesFileError(ConfigError):
    """A file of custom rates cannot be read; ``path`` names it."""

    def __init__(self, path: object, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"Rates file {str(path)!r}: {problem}")

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.path, self.problem)


class LedgerError(Eco2CallbacksError, RuntimeError):
    """A ledger cannot be opened, read or changed."""


class UnknownModelError(Eco2CallbacksError, LookupError):
    """No price is known for a model of a provider on a day."""

    def __init__(self, provider: str, model: str, day: str) -> None:
        self.provider = provider
        self.model = model
        self.day = day
        super().__init__(
            f"No price for model {model!r} of provider {provider!r} on {day}; "
            "add it to the file named by ECO2_PRICES or pass prices=."
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.provider, self.model, self.day)


class UsageError(Eco2CallbacksError, ValueError):
    """Token counts contradict each other, so their cost is undefined."""

    def __init__(self, whole: str, total: int, parts: int) -> None:
        self.whole = whole
        self.total = total
        self.parts = parts
        super().__init__(
            f"The parts of {whole} sum to {parts}, more than the {total} it holds; "
            "pass counts that include their own parts."
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.whole, self.total, self.parts)
