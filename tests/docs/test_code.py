"""All Python code of the README and the pages runs as it stands, from the top of a page to its end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import prometheus_client
import pytest

from tests.support.otlp_receiver import receiving
from tests.support.page_names import page_names
from tests.support.pages import PAGES, ROOT, blocks, links, read
from tests.support.programs import free_port

# Pages whose code needs servers, several files or a tool of its own: the test that runs them.
ELSEWHERE = {
    "docs/attaching.md": "tests/test_attaching.py",
    "docs/budgets.md": "tests/budgets/test_docs.py",
    "docs/recipes/celery.md": "tests/docs/test_recipes.py",
    "docs/recipes/fastapi.md": "tests/docs/test_recipes.py",
    "docs/recipes/gunicorn.md": "tests/docs/test_recipes.py",
    "docs/recipes/langgraph-dev.md": "tests/docs/test_recipes.py",
    "docs/recipes/notebook.md": "tests/docs/test_recipes.py",
}
# This code sets what holds for the whole process.
_ALONE = ("docs/opentelemetry.md",)
_TESTS = ("docs/testing.md",)
_HERE = [page for page in PAGES if blocks(page, "python") and page not in {*ELSEWHERE, *_ALONE, *_TESTS}]


@pytest.mark.parametrize("page", ELSEWHERE)
def test_a_page_that_runs_elsewhere_does(page: str) -> None:
    """The test that is named reads the page."""
    source = (ROOT / ELSEWHERE[page]).read_text(encoding="utf-8")

    assert blocks(page, "python")
    assert Path(page).name in source


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("page", _HERE)
def test_the_code_of_a_page_runs(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each block runs with the names of the blocks before it; printed lines are those that the page shows."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "x")
    (tmp_path / "src").mkdir()
    servers: list[Any] = []
    serve = prometheus_client.start_http_server
    monkeypatch.setattr(prometheus_client, "start_http_server", lambda port: servers.append(serve(0, "127.0.0.1")))
    names = page_names(str(tmp_path / "eco2.db"))
    shown = read(page)
    for code in blocks(page, "python"):
        runnable = code.replace("http://prometheus:9090", f"http://127.0.0.1:{free_port()}")
        exec(compile(runnable, page, "exec"), names)
        printed = capsys.readouterr().out
        if (wanted := re.match(r"```\n+```text\n(.*?)^```", shown.split(code, 1)[1], re.DOTALL | re.MULTILINE)) and (
            "print(" in code
        ):
            assert printed == wanted[1]
        for expected in re.findall(r"^print\(.*\)  # (.+)$", code, re.MULTILINE) if page == "docs/agents.md" else ():
            assert expected in printed.splitlines()
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
    names["handler"].close()


@pytest.mark.slow
@pytest.mark.parametrize("page", _ALONE)
def test_code_that_configures_the_process_runs_alone(page: str, tmp_path: Path) -> None:
    """The page's set-up sends its metrics to a collector."""
    program = "\n".join(
        [
            "from tests.support.page_names import page_names",
            "globals().update(page_names('eco2.db'))",
            *blocks(page, "python"),
            'graph.invoke(inputs, {"callbacks": [handler]})',
            "handler.close()",
        ]
    )
    with receiving() as receiver:
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url},
            check=True,
        )

    assert receiver.requests


@pytest.mark.slow
@pytest.mark.parametrize("page", _TESTS)
def test_the_tests_of_a_page_pass(page: str, tmp_path: Path) -> None:
    """The tests shown pass in a project of their own, by the commands shown."""
    prelude = "import pytest\nfrom tests.support.page_names import graph\n"
    for number, code in enumerate(blocks(page, "python")):
        name = f"test_page_{number}.py" if "def test_" in code else f"code_{number}.py"
        (tmp_path / name).write_text(prelude + code, encoding="utf-8")
        if name.startswith("code_"):
            compile(code, page, "exec")
            (tmp_path / f"test_{name}").write_text(f"def test_it():\n    import {name[:-3]}\n", encoding="utf-8")
    pytest_commands = [line.partition("#")[0].split() for block in blocks(page, "bash") for line in block.splitlines()]
    assert [command[0] for command in pytest_commands] == ["pytest", "pytest"]
    for _, *options in (*pytest_commands, ["pytest", "--llm-costs"]):
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *options]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout

    assert "3 passed" in done.stdout
    assert "LLM costs" in done.stdout
    assert list(tmp_path.glob("__cost_snapshots__/*.json"))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    """Files exist, and so do the headings that a link names."""
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {_slug(heading) for heading in headings}, link


def _slug(heading: str) -> str:
    """Return the anchor of a heading, as GitHub and MkDocs make it."""
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", heading).replace("`", "").lower()
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", text)).strip("-")


def test_the_readme_is_a_front_door() -> None:
    """At most 150 lines, two pictures, the two commands, and no mark of a draft."""
    readme = read("README.md")

    assert len(readme.splitlines()) <= 150
    assert len(re.findall(r"^!\[", readme, re.MULTILINE)) == 2
    assert [code.strip() for code in blocks("README.md", "bash")][1:] == [
        "uv run --no-dev --extra graph python -m graph demo",
        "uv run pytest",
    ]
    for page in PAGES:
        assert "@@" not in read(page), page
