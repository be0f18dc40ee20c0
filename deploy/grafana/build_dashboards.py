"""Writes the dashboards: ``uv run python deploy/grafana/build_dashboards.py``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).parent
MIXIN = HERE.parent / "mixin"
sys.path[:0] = [str(MIXIN), str(HERE.parents[1])]  # neither is installed

from dashboards import build_dashboards  # noqa: E402
from eco2_mixin import load_config  # noqa: E402

__all__ = ["OWN", "main"]

OWN = [MIXIN / "chat-worker.toml", MIXIN / "chat-api.toml"]
"""The chat service's."""


def main() -> None:
    """Write every dashboard to ``<uid>.json``."""
    parser = argparse.ArgumentParser(description="Write the dashboards as Grafana's JSON.")
    parser.add_argument("config", type=Path, nargs="*", default=OWN, help="instances of the mixin")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of the dashboards")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for uid, text in build_dashboards(*map(load_config, options.config)).items():
        (options.out / f"{uid}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
