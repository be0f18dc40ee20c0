"""Writes base/prometheusrule.yaml and base/prometheusrule-api.yaml: the rules for the Prometheus operator."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

__all__ = ["TARGETS", "main", "render"]

RULES = Path(__file__).parents[1] / "prometheus" / "rules"
_BASE = Path(__file__).parent / "base"
TARGETS = {
    _BASE / "prometheusrule.yaml": ("eco2-chat-worker", RULES),
    _BASE / "prometheusrule-api.yaml": ("eco2-chat-api", RULES / "api"),
}
"""Each file with the name of its object and the folder of its rules."""
_HEADER = "# Generated from deploy/prometheus/rules by deploy/kubernetes/prometheusrule.py. Change the rules there.\n"


class _Dumper(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no types
    """Writes multi-line texts as blocks, and no anchors."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - YAML's own signature
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render(name: str, folder: Path) -> str:
    """Return the PrometheusRule with the groups of all rule files of a folder, in the order of the files.

    Raises:
        ValueError: If the files hold no group of rules.
    """
    files = (yaml.safe_load(path.read_text("utf-8")) for path in sorted(folder.glob("*.yaml")))
    groups = [group for file in files for group in file["groups"]]
    if not groups:
        raise ValueError(f"{folder} holds no group of rules, wanted some in *.yaml; add them there.")
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": name,
            "labels": {"app.kubernetes.io/name": name, "release": "kube-prometheus-stack"},
        },
        "spec": {"groups": groups},
    }
    text: str = yaml.dump(rule, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)
    return _HEADER + text


def main() -> int:
    """Write the files."""
    for target, (name, folder) in TARGETS.items():
        target.write_text(render(name, folder), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
