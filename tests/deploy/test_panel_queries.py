"""Grafana's behaviour as reproduced for the tests: interpolated variables and names of series."""

from __future__ import annotations

import promql_parser
import pytest

from panel_queries import View, legend

VALUES = {
    "all_values": ([], ".*"),
    "one_value": (["answer"], "answer"),
    "a_number": (["5.0"], "5.0"),
    "several_values": (["answer", "intent"], "(answer|intent)"),
    "special_characters": (["gpt-5.2", "a|b"], r"(gpt-5\\.2|a\\|b)"),
}


@pytest.mark.parametrize(("selected", "written"), VALUES.values(), ids=VALUES)
def test_values_are_joined_to_a_regular_expression(selected: list[str], written: str) -> None:
    """Values are joined and escaped as Grafana does for a Prometheus data source."""
    filled = View(start=0, end=60, selected={"model": selected}).interpolate('up{model=~"$model"}', ["model"])

    assert filled == f'up{{model=~"{written}"}}'
    assert promql_parser.parse(filled)


TIMES = {
    # At most 1000 points, never closer than the scrape interval.
    "an_hour": (3600, "3600000ms 3600s 15000ms 15000 60000ms 60000"),
    "a_month": (30 * 86400, "2592000000ms 2592000s 2592000ms 2592000 2607000ms 2607000"),
}


@pytest.mark.parametrize(("seconds", "written"), TIMES.values(), ids=TIMES)
def test_times_are_those_of_the_view(seconds: int, written: str) -> None:
    """The rate interval covers at least four scrapes, and at least one step plus one scrape."""
    expression = "$__range ${__range_s}s $__interval $__interval_ms $__rate_interval $__rate_interval_ms"

    assert View(start=0, end=seconds).interpolate(expression, []) == written


def test_an_undefined_variable_is_an_error() -> None:
    """An undefined variable is an error. Otherwise it would stay in the query and match nothing."""
    with pytest.raises(LookupError, match=r"'nodes' of .* is not defined"):
        View(start=0, end=60).interpolate('up{node=~"$nodes"}', ["node"])


def test_a_series_is_named_by_its_labels() -> None:
    """The legend contains the label values; a missing label is empty."""
    target = {"legendFormat": "{{type}} {{ status }}, {{colour}}"}

    assert legend(target, {"type": "catch_up", "status": "error"}) == "catch_up error, "
