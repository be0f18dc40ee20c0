"""The verbs of ``eco2``: one file each, imported when the verb runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

__all__ = ["load_verb"]


def load_verb(path: str) -> Callable[..., Any]:
    """Import a verb and return its function.

    Args:
        path: Module and function, such as ``report.report``.
    """
    module, function = path.split(".")
    verb: Callable[..., Any] = getattr(import_module(f"{__name__}.{module}"), function)
    return verb
