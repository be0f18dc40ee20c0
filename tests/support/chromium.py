"""Opens a page in Debian's Chromium, without a network."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.programs import program

__all__ = ["dump_dom", "screenshot"]

_SECONDS = 240


def _run(page: Path, profile: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(
                program("chromium", package="chromium"),
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
            ),
            *("--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={profile}", "--window-size=1200,1500"),
            *("--virtual-time-budget=20000", *options, page.as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=True,
    )


def dump_dom(page: Path, profile: Path) -> str:
    """Return the page's HTML after its scripts ran."""
    return _run(page, profile, "--dump-dom").stdout


def screenshot(page: Path, profile: Path, picture: Path) -> None:
    """Write a picture of the page."""
    _run(page, profile, f"--screenshot={picture}")
