"""The habits that CONTRIBUTING describes are set up: tasks, hooks, the parts of CI, releases and templates."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.pages import ROOT, read

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WORKFLOWS = ROOT / ".github" / "workflows"
PARTS = re.findall(r"^(\w+)\(\) \{", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)


def workflow(name: str) -> dict[Any, Any]:
    loaded: dict[Any, Any] = yaml.safe_load((WORKFLOWS / f"{name}.yaml").read_text(encoding="utf-8"))
    return loaded


def commands(job: dict[str, Any]) -> list[str]:
    return [step["run"] for step in job["steps"] if "run" in step]


def test_each_part_of_ci_is_a_job() -> None:
    """The workflow runs every part of ``.ci/run``, each in a job of its name."""
    parts = {part for part in PARTS if not part.startswith("install_")}

    jobs = workflow("ci")["jobs"]

    assert set(jobs) == parts
    assert all(commands(job) == [f"bash .ci/run {name}"] for name, job in jobs.items())
    assert all("timeout-minutes" in job for job in jobs.values())


def test_an_unknown_part_is_refused() -> None:
    """The message names the parts."""
    done = subprocess.run(["bash", ".ci/run", "test"], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "The part is 'test', wanted one of: lint oldest" in done.stderr


_UNSTEADY = """
import pathlib
import pytest

@pytest.mark.parametrize("number", range({tests}))
def test(number):
    seen = pathlib.Path(f"seen{{number}}")
    first = not seen.exists()
    seen.touch()
    assert {passes}
"""


@pytest.mark.parametrize(
    ("tests", "passes", "code"),
    [
        pytest.param(2, "not first", 0, id="unsteady"),
        pytest.param(2, "number", 1, id="broken"),
        pytest.param(4, "not first", 1, id="many failed"),
        pytest.param(0, "import nothing", 2, id="not collected"),
    ],
)
def test_failed_tests_run_once_more(tmp_path: Path, tests: int, passes: str, code: int) -> None:
    """``.ci/again`` lets pass what passes alone, and names it. Nothing else turns green."""
    (tmp_path / "test_unsteady.py").write_text(_UNSTEADY.format(tests=tests, passes=passes))
    (tmp_path / "pytest.ini").touch()
    command = f"{sys.executable} -m pytest || bash {ROOT / '.ci' / 'again'} $? {sys.executable} -m pytest"

    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == code, done.stdout + done.stderr
    assert ("UNSTEADY" in done.stdout) == (code == 0)
    if code == 0:
        assert done.stdout.rstrip().endswith("test_unsteady.py::test[0]\ntest_unsteady.py::test[1]")


@pytest.mark.parametrize("name", [path.stem for path in WORKFLOWS.glob("*.yaml")])
def test_a_workflow_may_only_read(name: str) -> None:
    """Only the job that publishes gets more: the identity for trusted publishing."""
    loaded = workflow(name)

    assert loaded["permissions"] == {"contents": "read"}
    more = {job: setup["permissions"] for job, setup in loaded["jobs"].items() if "permissions" in setup}
    assert more == ({"publish": {"id-token": "write"}} if name == "release" else {})
    assert "secrets." not in (WORKFLOWS / f"{name}.yaml").read_text()


def test_a_release_is_tested_built_and_published_without_a_token() -> None:
    """The tag is compared with the version before anything else is done."""
    jobs = workflow("release")["jobs"]

    steps = commands(jobs["build"])
    assert [step for step in steps if "GITHUB_REF_NAME" in step or step == "uv build"] == [steps[1], "uv build"]
    assert steps.index("bash .ci/run unit") < steps.index("uv build")
    assert jobs["publish"]["needs"] == "build"
    assert jobs["publish"]["environment"]["name"] == "pypi"


def test_every_documented_task_exists() -> None:
    """The table of CONTRIBUTING and the tasks of the project are the same, but for the shortest ones."""
    tasks = set(PROJECT["tool"]["poe"]["tasks"])

    named = set(re.findall(r"`uv run poe (\w+)`", read("CONTRIBUTING.md")))

    assert named <= tasks
    assert {"lint", "fix", "coverage", "docs", "audit"} <= named
    assert all("help" in task for task in PROJECT["tool"]["poe"]["tasks"].values())


def test_the_tasks_can_be_listed() -> None:
    """``uv run poe`` shows each task with its help."""
    listed = subprocess.run(["poe", "--help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert all(task in listed for task in PROJECT["tool"]["poe"]["tasks"])


def test_the_hooks_run_the_project_s_own_tools() -> None:
    """pre-commit finds no fault in its configuration, and no hook has a version of its own."""
    subprocess.run(["pre-commit", "validate-config", ".pre-commit-config.yaml"], cwd=ROOT, check=True)
    repos = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]

    assert [repo["repo"] for repo in repos] == ["local"]
    assert all(hook["entry"].startswith("uv run ") for hook in repos[0]["hooks"])


def test_the_contracts_are_linted() -> None:
    """``uv run lint-imports`` has contracts to check; another test runs it."""
    assert len(PROJECT["tool"]["importlinter"]["contracts"]) > 10


def test_coverage_has_a_gate() -> None:
    """Less coverage than this fails."""
    assert PROJECT["tool"]["coverage"]["report"]["fail_under"] >= 90


def test_the_project_names_its_addresses() -> None:
    """What an index of packages shows: documentation, changes, issues, source."""
    urls = PROJECT["project"]["urls"]

    assert {"Documentation", "Changelog", "Issues", "Source"} <= set(urls)
    assert all(url.startswith("https://") for url in urls.values())


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_an_issue_template_is_a_form(path: Path) -> None:
    """Each form has a name, and each of its fields an id and a label."""
    form = yaml.safe_load(path.read_text(encoding="utf-8"))

    if path.stem == "config":
        assert all(link.keys() == {"name", "url", "about"} for link in form["contact_links"])
        return
    assert form["name"]
    assert form["description"]
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields) > 0
    assert all(field["attributes"]["label"] for field in fields)


def test_every_page_is_in_the_navigation() -> None:
    """Each page of ``docs/`` can be reached on the site, and the README names each topic."""
    navigation = re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text().partition("\nnav:")[2])
    pages = sorted(path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md"))

    assert sorted(navigation) == pages
    linked = read("README.md") + read("docs/recipes/README.md") + read("docs/index.md")
    topics = {Path(page).name for page in pages} - {"index.md", "changelog.md", "contributing.md"}
    assert {page for page in topics if page not in linked} == set()
