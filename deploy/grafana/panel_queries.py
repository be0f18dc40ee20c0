"""Runs the queries of Grafana panels against Prometheus, with the dashboard's variables interpolated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

import httpx2

__all__ = ["QueryRunner", "Series", "View", "annotation_queries", "legend", "panels", "variables"]

ALL: Final = ".*"
DEFAULTS: Final[Mapping[str, Sequence[str]]] = MappingProxyType({"target": ("5.0",)})
"""Values of variables that have one value instead of all."""
_MAX_POINTS: Final = 1000  # about one per pixel of a graph
_VARIABLE: Final = re.compile(r"\$(?:\{(\w+)(?::\w+)?\}|(\w+))")
_LABEL: Final = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_NUMBER: Final = re.compile(r"[\d.]+")
_SPECIAL: Final = re.compile(r"[\\^$.*+?()\[\]{}|]")


class Series(NamedTuple):
    """A series: its labels and its points, each a time in seconds and a value."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        """The last value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """The time range and the variables' values that a dashboard is viewed with.

    Attributes:
        start: Start of the range, in seconds since 1970.
        end: End of the range, in seconds since 1970.
        scrape_seconds: The scrape interval in the data source's settings.
        selected: Selected values by variable. A variable that is missing here selects all values.
    """

    start: float
    end: float
    scrape_seconds: float = 15
    selected: Mapping[str, Sequence[str]] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def step_seconds(self) -> float:
        """``$__interval``: seconds between two points of a graph."""
        return max((self.end - self.start) / _MAX_POINTS, self.scrape_seconds)

    @property
    def rate_seconds(self) -> float:
        """``$__rate_interval``."""
        return max(self.step_seconds + self.scrape_seconds, 4 * self.scrape_seconds)

    def interpolate(self, expression: str, names: Sequence[str]) -> str:
        """Return PromQL with its variables replaced. ``names`` are the dashboard's variables.

        Raises:
            LookupError: If the dashboard does not define a variable.
        """
        seconds = {
            "__interval": self.step_seconds,
            "__rate_interval": self.rate_seconds,
            "__range": self.end - self.start,
        }
        values = {name: _duration(value) for name, value in seconds.items()}
        values |= {f"{name}_ms": f"{value * 1000:.0f}" for name, value in seconds.items()}
        values["__range_s"] = f"{self.end - self.start:.0f}"
        values |= {name: _alternatives(self.selected.get(name, DEFAULTS.get(name, ()))) for name in names}

        def value_of(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            try:
                return values[name]
            except KeyError:
                raise LookupError(f"The variable {name!r} of {expression!r} is not defined.") from None

        return _VARIABLE.sub(value_of, expression)


class QueryRunner:
    """Queries a Prometheus server.

    Args:
        url: Address of the server.
    """

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **parameters: str) -> Any:
        """Return the data of a response of the HTTP API.

        Raises:
            RuntimeError: If Prometheus returns an error.
        """
        answer = self._client.get(f"/api/v1/{path}", params=parameters).json()
        if answer["status"] != "success":
            raise RuntimeError(f"Prometheus refused {parameters.get('query', path)!r}: {answer['error']}")
        return answer["data"]

    def run(self, target: Mapping[str, Any], names: Sequence[str], view: View) -> list[Series]:
        """Return the result of a panel's query: one point per series if it is instant, else the points of the range."""
        expression = view.interpolate(target["expr"], names)
        if target.get("instant"):
            rows = self.get("query", query=expression, time=str(view.end))["result"]
            return [Series(row["metric"], [_point(row["value"])]) for row in rows]
        times = {"start": str(view.start), "end": str(view.end), "step": str(view.step_seconds)}
        rows = self.get("query_range", query=expression, **times)["result"]
        return [Series(row["metric"], [_point(value) for value in row["values"]]) for row in rows]


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the panels that query Prometheus; those on the ledger stand in a collapsed row."""
    return (panel for panel in dashboard["panels"] if panel["type"] != "row")


def annotation_queries(dashboard: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the annotations, each with a query like a panel's: ``expr`` and ``legendFormat``."""
    return [
        {**mark, "expr": mark["target"]["expr"], "legendFormat": mark["titleFormat"]}
        for mark in dashboard["annotations"]["list"]
    ]


def variables(dashboard: Mapping[str, Any]) -> list[str]:
    """Return the names of a dashboard's variables."""
    return [variable["name"] for variable in dashboard["templating"]["list"]]


def legend(target: Mapping[str, Any], labels: Mapping[str, str]) -> str:
    """Return the name of a series."""
    return _LABEL.sub(lambda match: labels.get(match[1], ""), target["legendFormat"])


def _alternatives(values: Sequence[str]) -> str:
    """Return a regular expression for these values. In a PromQL string a backslash is written twice."""
    if len(values) == 1 and _NUMBER.fullmatch(values[0]):  # of a custom variable, which is not escaped
        return values[0]
    escaped = [_SPECIAL.sub(r"\\\\\g<0>", value) for value in values]
    return f"({'|'.join(escaped)})" if len(escaped) > 1 else "".join(escaped) or ALL


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f}ms"


def _point(value: Sequence[Any]) -> tuple[float, float]:
    return float(value[0]), float(value[1])
