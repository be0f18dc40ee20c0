"""The markers limit_cost and limit_tokens."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.pytest_plugin.figures import CostRow, total_row

__all__ = ["MARKERS", "check_limits", "read_limits"]

MARKERS = (
    "limit_cost(usd, allow_unpriced=False): fail the test if its model calls cost more than usd, such as '0.02'.",
    "limit_tokens(total=None, *, input=None, output=None): fail the test if its model calls use more tokens.",
)


def read_limits(item: pytest.Item) -> dict[str, Any]:
    """Return the limits of a test's closest markers.

    Raises:
        ConfigError: If a marker cannot be used.
    """
    limits: dict[str, Any] = {}
    if (marker := item.get_closest_marker("limit_cost")) is not None:
        limits["usd"], limits["allow_unpriced"] = _read_cost(*marker.args, **marker.kwargs)
    if (marker := item.get_closest_marker("limit_tokens")) is not None:
        limits |= _read_tokens(*marker.args, **marker.kwargs)
    return limits


def check_limits(limits: dict[str, Any], rows: Sequence[CostRow]) -> list[str]:
    """Return what is above its limit, one sentence each."""
    total = total_row(rows)
    faults = []
    usd = limits.get("usd")
    if usd is not None and total.usd > usd:
        faults.append(f"The model calls cost {total.usd:f} USD, more than limit_cost(usd={str(usd)!r}).")
    if usd is not None and total.unpriced_calls and not limits["allow_unpriced"]:
        faults.append(
            f"{total.unpriced_calls} of the model calls have no price, so limit_cost(usd={str(usd)!r}) cannot be "
            "checked. Add their rates to the file named by ECO2_PRICES, or pass allow_unpriced=True."
        )
    used = {"total": total.total_tokens, "input": total.input_tokens, "output": total.output_tokens}
    for kind, tokens in used.items():
        if (limit := limits.get(kind)) is not None and tokens > limit:
            faults.append(f"The model calls used {tokens:,} {kind} tokens, more than limit_tokens({kind}={limit}).")
    return faults


def _read_cost(*arguments: Any, **named: Any) -> tuple[Decimal, bool]:
    if arguments:
        named = {"usd": arguments[0], **named}
    usd, allow_unpriced = named.pop("usd", None), named.pop("allow_unpriced", False)
    try:
        # A float by its shortest text: 0.02 is two cents.
        limit = Decimal(str(usd))
    except InvalidOperation:
        limit = Decimal("NaN")
    if named or len(arguments) > 1 or isinstance(usd, bool) or not limit.is_finite() or limit < 0:
        raise ConfigError(f"limit_cost has usd={usd!r} {named or ''}, wanted dollars such as limit_cost(usd='0.02').")
    return limit, bool(allow_unpriced)


def _read_tokens(*arguments: Any, **named: Any) -> dict[str, int]:
    if arguments:
        named = {"total": arguments[0], **named}
    counts = [count for count in named.values() if count is not None]
    is_sound = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
    if len(arguments) > 1 or not counts or named.keys() - {"total", "input", "output"} or not is_sound:
        raise ConfigError(f"limit_tokens has {named!r}, wanted counts such as limit_tokens(5000) or (input=4000).")
    return named
