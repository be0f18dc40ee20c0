"""The worker's settings: defaults, invalid values, and keys from files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graph.errors import GraphConfigError
from graph.worker.settings import WorkerSettings, read_secret_files


def test_nothing_needs_to_be_set() -> None:
    """A blank variable counts as unset."""
    blank = dict.fromkeys(("ECO2_REDIS_URL", "ECO2_METRICS_PORT", "ECO2_GRACE_SECONDS", "ECO2_WORKER_CONCURRENCY"), " ")

    assert WorkerSettings.from_env(blank) == WorkerSettings.from_env({}) == WorkerSettings()


def test_every_setting_is_read() -> None:
    """The limits of each range are allowed, and the password is not shown."""
    environ = {
        "ECO2_REDIS_URL": "rediss://:hunter2@redis:6380/1",
        "ECO2_METRICS_PORT": "65535",
        "ECO2_GRACE_SECONDS": "0",
        "ECO2_WORKER_CONCURRENCY": "1",
    }

    settings = WorkerSettings.from_env(environ)

    assert settings == WorkerSettings(
        redis_url="rediss://:hunter2@redis:6380/1", metrics_port=65535, grace_seconds=0, concurrency=1
    )
    assert "hunter2" not in repr(settings)


_URLS = "'redis://host:port/database', 'rediss://...' or 'unix://...'"


@pytest.mark.parametrize(
    ("name", "value", "got", "wanted"),
    [
        ("ECO2_REDIS_URL", "http://:hunter2@redis", "begins with 'http'", _URLS),
        ("ECO2_REDIS_URL", "hunter2@redis:6379", "begins with no scheme", _URLS),
        ("ECO2_METRICS_PORT", "65536", "is '65536'", "a whole number from 0 to 65535"),
        ("ECO2_GRACE_SECONDS", "2.5", "is '2.5'", "a whole number from 0 to 3600"),
        ("ECO2_GRACE_SECONDS", "-1", "is '-1'", "a whole number from 0 to 3600"),
        ("ECO2_WORKER_CONCURRENCY", "0", "is '0'", "a whole number from 1 to 1000"),
    ],
)
def test_an_invalid_setting_is_refused(name: str, value: str, got: str, wanted: str) -> None:
    """The message contains the value and the wanted range, and no password."""
    with pytest.raises(GraphConfigError) as error:
        WorkerSettings.from_env({name: value})

    assert str(error.value) == f"{name} {got}, wanted {wanted}; correct it or unset it."


def test_a_secret_file_sets_its_variable(tmp_path: Path) -> None:
    """A file sets its variable unless the variable is set. Other files are ignored."""
    for name, content in {
        "OPENAI_API_KEY": "from-a-file\n",
        "GOOGLE_API_KEY": "from-a-file",
        "LANGSMITH_API_KEY": "",
        "notes.txt": "no key",
    }.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "..data").mkdir()
    environ = {"ECO2_SECRETS_DIR": str(tmp_path), "OPENAI_API_KEY": " ", "GOOGLE_API_KEY": "from-the-shell"}

    read_secret_files(environ)

    assert environ == {
        "ECO2_SECRETS_DIR": str(tmp_path),
        "OPENAI_API_KEY": "from-a-file",
        "GOOGLE_API_KEY": "from-the-shell",
        "LANGSMITH_API_KEY": "",
    }


def test_unreadable_secrets_are_refused(tmp_path: Path) -> None:
    """The message contains the path but not the content."""
    (tmp_path / "OPENAI_API_KEY").write_bytes(b"\xff\xfe")
    nowhere = str(tmp_path / "nowhere")

    with pytest.raises(GraphConfigError, match=re.escape(f"ECO2_SECRETS_DIR is {nowhere!r}, wanted an existing")):
        read_secret_files({"ECO2_SECRETS_DIR": nowhere})
    with pytest.raises(
        GraphConfigError, match=r"OPENAI_API_KEY cannot be read: it is not UTF-8 text; correct or remove it"
    ):
        read_secret_files({"ECO2_SECRETS_DIR": str(tmp_path)})


def test_without_a_directory_nothing_is_read() -> None:
    """The environment does not change."""
    environ: dict[str, str] = {}

    read_secret_files(environ)

    assert environ == {}
