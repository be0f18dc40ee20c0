"""Feature: what serves an application's intents, for the tags of a trace."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from eco2_callbacks.arguments import check_instance, check_mapping, check_text, check_texts
from eco2_callbacks.errors import ConfigError

__all__ = ["Feature", "Features", "read_features"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What serves an intent.

    Attributes:
        feature: Name of the feature; the tag is ``feature:<name>``.
        subagents: Nodes that do the work; without any, the handler's ``subagents``, or else all nodes.
        parallel: Whether these nodes run side by side.
        description: Free text.
    """

    feature: str
    subagents: tuple[str, ...] = ()
    parallel: bool = False
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.feature, str) or not self.feature:
            raise ConfigError(f"A feature's name is {self.feature!r}, wanted a text such as 'rag'.")
        if isinstance(self.subagents, str):
            raise ConfigError(f"subagents of {self.feature!r} is {self.subagents!r}, wanted a list of node names.")
        object.__setattr__(self, "subagents", check_texts(f"subagents of {self.feature!r}", self.subagents))
        check_instance(f"parallel of {self.feature!r}", self.parallel, bool, "pass True or False")
        check_text(f"description of {self.feature!r}", self.description, may_be_empty=True)


# intent, or a node that always serves the feature -> the feature: whole, as a mapping of its fields, or its name alone
Features: TypeAlias = Mapping[str, Feature | Mapping[str, Any] | str]


def read_features(features: Features | None) -> dict[str, Feature]:
    """Return the features by intent or node; none for None.

    Raises:
        ConfigError: If an entry is no feature, or has an unknown field.
    """
    return {key: _read(key, entry) for key, entry in check_mapping("features", features).items()}


def _read(key: str, entry: object) -> Feature:
    if isinstance(entry, Feature):
        return entry
    if isinstance(entry, str):
        return Feature(feature=entry)
    known = {field.name for field in fields(Feature)}
    if isinstance(entry, Mapping) and "feature" in entry and not set(entry) - known:
        return Feature(**entry)
    raise ConfigError(f"features[{key!r}] is {entry!r}, wanted a name or a mapping with 'feature', of {sorted(known)}.")
