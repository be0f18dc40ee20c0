"""Checks of arguments: each returns the value, or raises a ConfigError with what came, what was wanted, what to do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from eco2_callbacks.errors import ConfigError

__all__ = [
    "check_budgets",
    "check_callable",
    "check_count",
    "check_instance",
    "check_mapping",
    "check_seconds",
    "check_sequence",
    "check_text",
    "check_texts",
]

_T = TypeVar("_T")
_BUDGET_KEYS = ("daily_usd", "monthly_usd")


def check_text(name: str, value: Any, *, may_be_empty: bool = False) -> str:
    """Return a text."""
    if not isinstance(value, str) or not (value or may_be_empty):
        wanted = "a text" if may_be_empty else "a text that is not empty"
        raise ConfigError(f"{name}= is {value!r}, wanted {wanted}; pass one.")
    return value


def check_sequence(name: str, value: Any, wanted: str) -> tuple[Any, ...]:
    """Return the items of a list, tuple or set; a single text, a mapping or an iterator is none."""
    if isinstance(value, str | bytes | Mapping) or not (isinstance(value, Sequence | set | frozenset)):
        advice = f"pass [{value!r}]" if isinstance(value, str) else "pass a list"
        raise ConfigError(f"{name}= is {value!r}, wanted {wanted}; {advice}.")
    return tuple(value)


def check_texts(name: str, value: Any) -> tuple[str, ...]:
    """Return the texts of a list; none of them is empty."""
    texts = check_sequence(name, value, "a list of texts")
    for text in texts:
        if not isinstance(text, str) or not text:
            raise ConfigError(f"{name}= holds {text!r}, wanted texts that are not empty; correct that item.")
    return texts


def check_mapping(name: str, value: Any) -> Mapping[str, Any]:
    """Return a mapping with texts as keys; an empty one for None."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}= is {value!r}, wanted a mapping; pass a dict.")
    for key in value:
        if not isinstance(key, str):
            raise ConfigError(f"{name}= has the key {key!r}, wanted texts as keys; write it as {str(key)!r}.")
    return value


def check_count(name: str, value: Any) -> int:
    """Return a whole number of 1 or more."""
    if type(value) is not int or value < 1:
        raise ConfigError(f"{name}= is {value!r}, wanted a whole number of 1 or more; pass an int such as 100.")
    return value


def check_seconds(name: str, value: Any) -> float:
    """Return seconds, 0 or more."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{name}= is {value!r}, wanted seconds of 0 or more; pass a number such as 10.0.")
    return float(value)


def check_callable(name: str, value: Callable[[], _T], example: str) -> Callable[[], _T]:
    """Return a function without arguments."""
    if not callable(value) or not _takes_no_arguments(value):
        raise ConfigError(f"{name}= is {value!r}, wanted a function without arguments; pass one such as {example}.")
    return value


def check_instance(name: str, value: Any, wanted: type[_T], advice: str) -> _T:
    """Return an object of a class."""
    if not isinstance(value, wanted):
        raise ConfigError(f"{name}= is {value!r}, wanted a {wanted.__name__}; {advice}.")
    return value


def check_budgets(value: Any) -> Mapping[str, Mapping[str, float]]:
    """Return what each tenant may spend: known keys only, each with dollars of 0 or more."""
    budgets = check_mapping("budgets", value)
    for tenant_id, budget in budgets.items():
        name = f"budgets[{tenant_id!r}]"
        if not tenant_id:
            raise ConfigError(f"budgets= has the tenant {tenant_id!r}, wanted a tenant's id; name the tenant.")
        if not isinstance(budget, Mapping):
            raise ConfigError(f"{name} is {budget!r}, wanted a mapping; pass {{'monthly_usd': 100.0}}.")
        if not budget:
            raise ConfigError(f"{name} is {budget!r}, wanted one of {list(_BUDGET_KEYS)!r} at least; set it.")
        for key, usd in budget.items():
            if key not in _BUDGET_KEYS:
                raise ConfigError(f"{name} has the key {key!r}, wanted {list(_BUDGET_KEYS)!r}; correct the key.")
            if not _is_usd(usd):
                raise ConfigError(f"{name}[{key!r}] is {usd!r}, wanted dollars of 0 or more; pass a number.")
    return budgets


def _takes_no_arguments(function: Callable[..., Any]) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a function in C that does not say
        return True
    try:
        signature.bind()
    except TypeError:
        return False
    return True


def _is_usd(usd: Any) -> bool:
    if isinstance(usd, bool):
        return False
    try:
        return not isinstance(usd, str | bytes) and 0 <= float(usd) < math.inf
    except (TypeError, ValueError, OverflowError):
        return False
