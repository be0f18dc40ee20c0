"""Writes the rule files of an instance of the mixin: ``build_rules.py deploy/mixin/shop.toml --out rules``.

Without a configuration it writes those of the chat service: the worker's and the API's.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]  # neither is installed

from eco2_callbacks import ConfigError  # noqa: E402
from eco2_mixin import grafana_file, load_config, render_rules  # noqa: E402

__all__ = ["OWN", "main"]

_DEPLOY = ROOT / "deploy"
OWN = {
    _DEPLOY / "mixin" / "chat-worker.toml": (
        _DEPLOY / "prometheus" / "rules",
        _DEPLOY / "grafana" / "alerting" / "eco2.yaml",
    ),
    _DEPLOY / "mixin" / "chat-api.toml": (
        _DEPLOY / "prometheus" / "rules" / "api",
        _DEPLOY / "grafana" / "alerting" / "eco2-api.yaml",
    ),
}
"""The deployed instances: folder of the rules, and file for Grafana-managed alerts."""


def main() -> int:
    """Write the rules, and the provisioning file for Grafana-managed alerts if ``--grafana`` names it."""
    parser = argparse.ArgumentParser(description="Write the rule files of an instance of the mixin.")
    parser.add_argument("config", type=Path, nargs="?", help="default: the chat service's")
    parser.add_argument("--out", type=Path, help="folder of the rule files")
    parser.add_argument("--grafana", type=Path, help="file for Grafana-managed alerts")
    parser.add_argument("--datasource", default="prometheus", help="uid of the Prometheus data source in Grafana")
    options = parser.parse_args()
    if (options.config is None) != (options.out is None):
        parser.error("wanted a configuration and --out, the folder of its rule files, or neither")
    wanted = OWN if options.config is None else {options.config: (options.out, options.grafana)}
    for path, (out, grafana) in wanted.items():
        try:
            config = load_config(path)
        except ConfigError as error:
            sys.exit(str(error))
        out.mkdir(parents=True, exist_ok=True)
        for name, text in render_rules(config).items():
            (out / f"{name}.yaml").write_text(text, encoding="utf-8")
        if grafana is not None:
            grafana.parent.mkdir(parents=True, exist_ok=True)
            grafana.write_text(grafana_file(config, datasource_uid=options.datasource), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
