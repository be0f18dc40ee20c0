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


def build_dashboards(config: MixinConfig, *others: MixinConfig) -> Mapping[str, str]:
    """Return the JSON of every dashboard by its uid, with the alerts of these instances of the mixin."""
    services = [one.service for one in (config, *others)]
    first = overview(services=services, runbooks=config.urls.runbooks)
    return {COST: cost(), NODES: nodes(), STREAMING: streaming(), OVERVIEW: first}
