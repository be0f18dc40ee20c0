"""JSON on standard output; dollars are numbers with all their digits."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

__all__ = ["print_json"]

_encoder = msgspec.json.Encoder(decimal_format="number")


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    text = msgspec.json.format(_encoder.encode(value), indent=2).decode()
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
