"""The HTML pages: self-contained, and drawn by a real browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.support.chromium import dump_dom

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")


def _page(run: Run, ledger: Path, tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "page.html"
    if kind == "trace":
        run("trace", "job-0", "--html", "-o", path, "--ledger", ledger)
    else:
        run("report", "--by", kind, "--format", "html", "-o", path, "--ledger", ledger, *_PERIOD)
    return path


@pytest.mark.parametrize("kind", ["tenant", "day,tenant", "trace"])
def test_a_page_loads_nothing(run: Run, ledger: Path, tmp_path: Path, kind: str) -> None:
    """A page is one file: no element refers to another address, and its policy forbids it."""
    text = _page(run, ledger, tmp_path, kind).read_text(encoding="utf-8")

    own = re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"""(src|href)\s*=|url\(|@import""", own)
    assert "default-src 'none'" in own
    assert own.isascii() or "charset=utf-8" in own


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tenant", "day,tenant", "trace"])
def test_a_browser_draws_the_charts(run: Run, ledger: Path, tmp_path: Path, kind: str) -> None:
    """Chromium, without a network, draws a bar for each group and shows the table."""
    path = _page(run, ledger, tmp_path, kind)

    dom = dump_dom(path, tmp_path / "profile")

    # Each bar that has a value is a path.
    assert len(re.findall(r'<g class="point"><path', dom)) >= (1 if kind != "trace" else 4)
    assert "acme" in dom
    assert "0.006300" in dom or kind == "trace"
