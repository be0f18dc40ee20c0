"""Feature: the map from intents to features, checked at construction."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, Feature
from eco2_callbacks.langsmith.features import read_features


def test_a_feature_is_given_whole_as_a_mapping_or_by_name() -> None:
    """A Feature, a mapping and a name give the same feature."""
    whole = Feature(feature="rag", subagents=("waste_rag", "weather"), parallel=True, description="rules")
    mapping = {"feature": "rag", "subagents": ["waste_rag", "weather"], "parallel": True, "description": "rules"}

    assert read_features({"a": whole, "b": mapping, "c": "rag"}) == {
        "a": whole,
        "b": whole,
        "c": Feature(feature="rag"),
    }


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (["rag"], "features['waste'] is ['rag'], wanted a name or a mapping with 'feature', of "),
        ({"name": "rag"}, "features['waste'] is {'name': 'rag'}, wanted a name or a mapping with 'feature', of "),
        (
            {"feature": "rag", "x": 1},
            "features['waste'] is {'feature': 'rag', 'x': 1}, wanted a name or a mapping with",
        ),
        ("", "A feature's name is '', wanted a text such as 'rag'."),
        ({"feature": None}, "A feature's name is None, wanted a text such as 'rag'."),
        ({"feature": "rag", "subagents": "one"}, "subagents of 'rag' is 'one', wanted a list of node names."),
    ],
    ids=["a_list", "no_feature", "an_unknown_field", "no_name", "none", "one_subagent"],
)
def test_an_invalid_feature_is_refused_at_construction(entry: Any, message: str) -> None:
    """The error names the entry, its value and what was wanted."""
    with pytest.raises(ConfigError) as raised:
        Eco2CallbackHandler(registry=CollectorRegistry(), features={"waste": entry})

    assert str(raised.value).startswith(message)
