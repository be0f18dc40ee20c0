"""The mixin: recording rules and alerts for any application with the handler, from one configuration."""

from __future__ import annotations

from eco2_mixin.config import MixinConfig, Slo, load_config
from eco2_mixin.grafana_rules import grafana_file
from eco2_mixin.rules import render_rules

__all__ = ["MixinConfig", "Slo", "grafana_file", "load_config", "render_rules"]
