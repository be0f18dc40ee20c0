"""Finds the metric family of a sample by its name."""

from __future__ import annotations

from eco2_callbacks.prometheus.families import FAMILIES, Family

__all__ = ["family_of"]

_FAMILIES = {
    f"{family.name}{suffix}": family
    for family in FAMILIES
    for suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}


def family_of(name: str) -> Family | None:
    """Return the handler's family of a sample, or None if the handler has no such family."""
    return _FAMILIES.get(name)
