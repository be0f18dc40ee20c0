"""Reads the clients' settings from the environment."""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime

from graph.clients.errors import ServiceUnconfigured

__all__ = ["TIMEOUT_SECONDS", "now", "optional", "required", "timeout_seconds"]

TIMEOUT_SECONDS = 3.0
_TIMEOUT = "ECO2_CLIENT_TIMEOUT_SECONDS"


def required(service: str, name: str, *, what: str) -> str:
    """Return a variable's value.

    Args:
        service: The service that needs it, for the error.
        name: The variable.
        what: Its content and where to get it, for the error.

    Raises:
        ServiceUnconfigured: If it is unset or blank.
    """
    value = os.environ.get(name, "").strip()
    if not value:
        raise ServiceUnconfigured(service, f"{name} is not set, wanted {what}; set it.")
    return value


def optional(name: str, default: str) -> str:
    """Return a variable's value, or the default if it is unset or blank."""
    return os.environ.get(name, "").strip() or default


def now() -> datetime:
    """Return ``ECO2_NOW`` if it is set, else the current time. A replay sets it to repeat the recorded requests."""
    instant = os.environ.get("ECO2_NOW", "").strip()
    return datetime.fromisoformat(instant) if instant else datetime.now(UTC)


def timeout_seconds(service: str) -> float:
    """Return the time limit of one call to a service, from ``ECO2_CLIENT_TIMEOUT_SECONDS``.

    Raises:
        ServiceUnconfigured: If it is not a number above 0.
    """
    text = optional(_TIMEOUT, str(TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ServiceUnconfigured(service, f"{_TIMEOUT} is {text!r}, wanted seconds above 0; correct it or unset it.")
    return seconds
