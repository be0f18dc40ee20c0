"""The ``__getattr__`` of a package whose names are imported with their first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return a package's ``__getattr__``.

    Args:
        package: The package's name.
        names: Module inside the package -> its names that the package gives out.
    """
    modules = {name: f"{package}.{module}" for module, those in names.items() for name in those}

    def find(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return find
