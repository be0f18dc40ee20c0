"""What the clients read from the environment when they are made by ``from_env()``."""

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
        service: Who needs it, for the error.
        name: The variable.
        what: What it holds and where it is got, for the error.

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
    """Return the time, or that of ``ECO2_NOW``, by which a recording asks what it asked when it was made."""
    instant = os.environ.get("ECO2_NOW", "").strip()
    return datetime.fromisoformat(instant) if instant else datetime.now(UTC)


def timeout_seconds(service: str) -> float:
    """Return how many seconds one question to a service may take, from ``ECO2_CLIENT_TIMEOUT_SECONDS``.

    Raises:
        ServiceUnconfigured: If it is set to something else than a number above 0.
    """
    text = optional(_TIMEOUT, str(TIMEOUT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not (math.isfinite(seconds) and seconds > 0):
        raise ServiceUnconfigured(service, f"{_TIMEOUT} is {text!r}, wanted seconds above 0; set it so or unset it.")
    return seconds
