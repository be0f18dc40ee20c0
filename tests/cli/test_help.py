"""``eco2 --help``: it names every verb, and is there at once."""

from __future__ import annotations

import subprocess
import sys

from eco2_callbacks.cli.app import build_app
from tests.cli.conftest import Run

_HEAVY = {"alembic", "langchain_core", "langsmith", "msgspec", "prometheus_client", "rich", "sqlalchemy"}


def test_help_names_every_verb(run: Run) -> None:
    """``eco2 --help`` lists the commands."""
    status, out, _ = run("--help")

    assert status == 0
    assert all(verb in out for verb in ("report", "trace", "prices", "ledger", "budget", "doctor"))


def test_a_verb_s_help_opens_with_its_sentence_in_the_list() -> None:
    """The list of verbs, which is written apart, says what each verb's own help says."""
    app = build_app()
    verbs = {**app.commands, **app.commands["ledger"].commands}

    shown = {
        name: verb.make_context(name, [], resilient_parsing=True).command.help.partition("\n")[0]
        for name, verb in verbs.items()
    }

    assert shown == {name: verb.help for name, verb in verbs.items()}
    assert len(shown) == 15


def test_help_is_there_at_once() -> None:
    """The help of ``eco2`` and of its groups loads no database, no LangChain and no other heavy package."""
    program = (
        "import sys; from eco2_callbacks.cli import main\n"
        "main(['--help']); main(['ledger', '--help']); print(*sys.modules)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    *shown, loaded = done.stdout.splitlines()
    assert any("forget" in line for line in shown)
    assert not _HEAVY & set(loaded.split())
