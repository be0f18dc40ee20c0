"""read_scores: numbers at a path in a node's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from langgraph.types import Command
from pydantic import BaseModel

from eco2_callbacks.runs.feedback import read_scores


class Review(BaseModel):
    score: float = 0.8


@dataclass
class State:
    review: Review = field(default_factory=Review)


@pytest.mark.parametrize(
    ("output", "path"),
    [
        ({"score": 0.8}, "score"),
        ({"review": {"score": 0.8}}, "review.score"),
        ({"review": Review()}, "review.score"),
        (State(), "review.score"),
        (Command(update={"review": {"score": 0.8}}), "review.score"),
    ],
    ids=["key", "path", "object_in_dict", "object", "command"],
)
def test_a_score_is_found_by_its_path(output: object, path: str) -> None:
    """A score is found through mappings, attributes and a command's update."""
    assert read_scores({"quality": path}, output) == {"quality": 0.8}


def test_a_node_may_return_several_scores() -> None:
    """Each key has its own path, and a whole number becomes a float."""
    scores = read_scores(
        {"quality": "quality", "stars": "review.stars", "absent": "review.x"}, {"quality": 0.5, "review": {"stars": 1}}
    )

    assert scores == {"quality": 0.5, "stars": 1.0}
    assert type(scores["stars"]) is float


@pytest.mark.parametrize("score", [0, 0.0, 1], ids=["zero", "zero_float", "one"])
def test_both_ends_of_the_scale_are_scores(score: float) -> None:
    """Zero and one are scores; zero is not a missing score."""
    assert read_scores({"quality": "score"}, {"score": score}) == {"quality": float(score)}


@pytest.mark.parametrize(
    "value",
    [None, True, False, "0.8", [0.8], {"x": 1}, -0.1, 1.1, float("nan"), float("inf"), float("-inf"), 1 + 2j, 10**400],
    ids=[
        "none",
        "true",
        "false",
        "text",
        "list",
        "dict",
        "below",
        "above",
        "nan",
        "inf",
        "minus_inf",
        "complex",
        "beyond_float",
    ],
)
def test_a_value_that_is_no_number_from_0_to_1_is_no_score(value: Any) -> None:
    """A path that leads to anything but a number from 0 to 1 gives no score."""
    assert read_scores({"quality": "score"}, {"score": value}) == {}


@pytest.mark.parametrize("output", [None, 7, "score", [], {}, {"score": {}}, Command(goto="next")], ids=str)
def test_a_path_that_leads_nowhere_yields_nothing(output: object) -> None:
    """A node whose output lacks the path has no scores."""
    assert read_scores({"quality": "score.value", "other": "score"}, output) == {}


def test_without_paths_nothing_is_read() -> None:
    """A node without a mapping has no scores."""
    assert read_scores({}, {"score": 0.8}) == {}
