"""Reads the disposal rules from ``rules/<category>.yaml``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

__all__ = ["Rule", "rules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """The disposal rule for one kind of waste.

    Attributes:
        item: Its name.
        also: Other names, and other items that the rule covers.
        category: The collection category.
        how: What to do.
        source: The authority behind the rule.
    """

    item: str
    also: tuple[str, ...]
    category: str
    how: str
    source: str


@cache
def rules() -> tuple[Rule, ...]:
    """Return all rules. The first call reads the files."""
    found: list[Rule] = []
    for path in sorted(Path(__file__).with_name("rules").glob("*.yaml")):
        page = yaml.safe_load(path.read_text(encoding="utf-8"))
        found += [_rule(entry, page) for entry in page["rules"]]
    return tuple(found)


def _rule(entry: Mapping[str, Any], page: Mapping[str, Any]) -> Rule:
    return Rule(
        item=entry["item"],
        also=tuple(entry["also"]),
        category=page["category"],
        how=entry["how"],
        source=page["source"],
    )
