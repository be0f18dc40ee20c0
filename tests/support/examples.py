"""How many examples a property test tries: a fifth on every commit, all where ``TEST_EXAMPLES=all``."""

from __future__ import annotations

import os

__all__ = ["examples"]

_ALL = os.environ.get("TEST_EXAMPLES") == "all"


def examples(number: int) -> int:
    """Return the ``max_examples=`` of a test that deserves so many."""
    return number if _ALL else max(20, number // 5)
