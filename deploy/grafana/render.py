"""Draws the dashboards with Grafana's own components in Chromium, and reports the faults that it sees.

``uv run python deploy/grafana/render.py http://127.0.0.1:9090 --out docs/images`` needs node, npm and chromium.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlencode

from page_server import serve_page

__all__ = ["build_page", "faults", "main", "shoot"]

_HERE: Final = Path(__file__).parent
_SOURCE: Final = _HERE.parent / "grafana-page"  # not in this folder, where Grafana looks for dashboards
_TIMEOUT_SECONDS: Final = 1500


def build_page(folder: Path) -> Path:
    """Build the page in a folder, which keeps npm's packages, and return the folder of the built page.

    Raises:
        RuntimeError: If npm cannot install the packages, or the page cannot be built.
    """
    state = hashlib.sha256()
    sources = sorted(path for path in _SOURCE.rglob("*") if path.is_file() and "node_modules" not in path.parts)
    for path in sources:
        state.update(path.read_bytes())
        target = folder / path.relative_to(_SOURCE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)
    built = folder / "dist"
    mark = folder / "built"  # written last: a build that was stopped half-way is made again
    if mark.is_file() and mark.read_text(encoding="utf-8") == state.hexdigest():
        return built
    install = ("npm", "install", "--legacy-peer-deps", "--no-package-lock", "--no-audit", "--no-fund")
    _run(*install, folder=folder)
    _run("npx", "vite", "build", folder=folder)
    mark.write_text(state.hexdigest(), encoding="utf-8")
    return built


def shoot(
    page: Path,
    server: str,
    uid: str,
    *,
    minutes: float,
    scrape_seconds: float = 15,
    selected: Mapping[str, str] = MappingProxyType({}),
    picture: Path | None = None,
) -> dict[str, Any]:
    """Draw a dashboard, and return what its panels show.

    Args:
        page: The folder of ``build_page``.
        server: URL of the page.
        uid: The dashboard's uid.
        minutes: Minutes to look back.
        scrape_seconds: Prometheus' scrape interval.
        selected: Values of variables.
        picture: File of the picture.

    Returns:
        ``errors`` of the page, and ``panels``. Each panel has its title, text and errors, whether it is empty, the
        numbers that it shows as 0 and that are not, and the names that it cuts.
    """
    options = {"board": uid, "minutes": minutes, "scrape": scrape_seconds}
    options |= {f"var-{name}": value for name, value in selected.items()}
    address = f"{server}/?{urlencode(options)}"
    output = _run("node", "shoot.mjs", address, *([str(picture.resolve())] if picture else []), folder=page.parent)
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    return report


def faults(report: Mapping[str, Any], *, may_be_empty: Sequence[str] = ()) -> Iterator[str]:
    """Yield what is wrong with a drawn dashboard.

    Args:
        report: What ``shoot`` returned.
        may_be_empty: Titles of panels that may have no data.
    """
    yield from report["errors"]
    for panel in report["panels"]:
        title = panel["title"]
        yield from (f"{title!r} throws: {error}" for error in panel["errors"])
        yield from (f"{title!r} rounds: {zero}" for zero in panel["zeros"])
        yield from (f"{title!r} cuts {text!r}" for text in panel["cut"])
        if panel["empty"] and title not in may_be_empty:
            yield f"{title!r} is empty"
        yield from (f"{title!r} shows {word}" for word in ("NaN", "undefined", "Infinity") if word in panel["text"])


def main() -> int:
    """Draw every dashboard and print the faults."""
    parser = argparse.ArgumentParser(description="Draw the dashboards with Grafana's own components.")
    parser.add_argument("prometheus", help="address of Prometheus, such as http://127.0.0.1:9090")
    parser.add_argument("--ledger", default="", help="address of the ledger's PostgreSQL")
    parser.add_argument("--minutes", type=float, default=60, help="minutes to look back")
    parser.add_argument("--scrape", type=float, default=15, help="Prometheus' scrape interval in seconds")
    parser.add_argument("--out", type=Path, default=Path(), help="folder of the pictures")
    cache = Path(tempfile.gettempdir()) / "eco2-dashboards-page"
    parser.add_argument("--page", type=Path, default=cache, help="folder in which the page is built")
    options = parser.parse_args()
    dashboards = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_HERE.glob("eco2-*.json"))}
    page = build_page(options.page)
    options.out.mkdir(parents=True, exist_ok=True)
    found = []
    with serve_page(page, dashboards, prometheus=options.prometheus, ledger=options.ledger) as server:
        for uid in dashboards:
            picture = options.out / f"{uid}.png"
            report = shoot(page, server, uid, minutes=options.minutes, scrape_seconds=options.scrape, picture=picture)
            found += [f"{uid}: {fault}" for fault in faults(report)]
    sys.stdout.writelines(f"{fault}\n" for fault in found)
    return 1 if found else 0


def _run(*command: str, folder: Path) -> str:
    program = shutil.which(command[0])
    if program is None:
        raise RuntimeError(f"{command[0]} is missing, wanted for the page of the dashboards; install nodejs and npm.")
    environment = {**os.environ, "NODE_OPTIONS": "--max-old-space-size=4096"}
    done = subprocess.run(  # noqa: S603  our own commands
        [program, *command[1:]],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
        )
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
