"""Writes the dashboards next to this file: ``uv run python deploy/grafana/build.py``."""

from __future__ import annotations

from pathlib import Path

from dashboards import build_dashboards

__all__ = ["main"]


def main() -> None:
    """Write every dashboard to ``<uid>.json``."""
    for uid, text in build_dashboards().items():
        Path(__file__).with_name(f"{uid}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
