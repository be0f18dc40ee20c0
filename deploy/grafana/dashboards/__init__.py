"""Builds the dashboards as Grafana's JSON."""

from __future__ import annotations

from collections.abc import Mapping

from dashboards.cost import UID as COST
from dashboards.cost import cost
from dashboards.nodes import UID as NODES
from dashboards.nodes import nodes
from dashboards.overview import UID as OVERVIEW
from dashboards.overview import overview
from dashboards.streaming import UID as STREAMING
from dashboards.streaming import streaming
from eco2_mixin import MixinConfig

__all__ = ["build_dashboards"]


def build_dashboards(config: MixinConfig) -> Mapping[str, str]:
    """Return the JSON of every dashboard by its uid, with the alerts and runbooks of this instance of the mixin."""
    first = overview(service=config.service, runbooks=config.urls.runbooks)
    return {COST: cost(), NODES: nodes(), STREAMING: streaming(), OVERVIEW: first}
