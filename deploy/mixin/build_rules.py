"""Writes the rule files of an instance of the mixin: ``build_rules.py deploy/mixin/shop.toml --out rules``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(Path(__file__).parent), str(ROOT)]  # neither is installed

from eco2_callbacks import ConfigError  # noqa: E402
from eco2_mixin import grafana_file, load_config, render_rules  # noqa: E402

__all__ = ["main"]


def main() -> int:
    """Write the rules, and the provisioning file for Grafana-managed alerts if ``--grafana`` names it."""
    parser = argparse.ArgumentParser(description="Write the rule files of an instance of the mixin.")
    deploy = ROOT / "deploy"
    parser.add_argument("config", type=Path, nargs="?", default=deploy / "mixin" / "chat-worker.toml")
    parser.add_argument("--out", type=Path, help="folder of the rule files; of the chat worker the deployed one")
    parser.add_argument("--grafana", type=Path, help="file for Grafana-managed alerts")
    parser.add_argument("--datasource", default="prometheus", help="uid of the Prometheus data source in Grafana")
    options = parser.parse_args()
    is_own = options.config == deploy / "mixin" / "chat-worker.toml"
    out = options.out or (deploy / "prometheus" / "rules" if is_own else None)
    grafana = options.grafana or (deploy / "grafana" / "alerting" / "eco2.yaml" if is_own else None)
    if out is None:
        parser.error("--out is missing: name the folder of the rule files")
    try:
        config = load_config(options.config)
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
