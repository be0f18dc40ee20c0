"""The settings of all server processes: defaults, invalid values, and keys from files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from graph.api import ApiSettings
from graph.errors import GraphConfigError
from graph.jobs import QueueSettings
from graph.worker import WorkerSettings, read_secret_files

_AMQP = "'amqp://user:password@host:port/vhost' or 'amqps://...'"
_REDIS = "'redis://host:port/database', 'rediss://...' or 'unix://...'"


@pytest.mark.parametrize("settings", [WorkerSettings, QueueSettings, ApiSettings])
def test_nothing_needs_to_be_set(settings: type[WorkerSettings]) -> None:
    """A blank variable counts as unset."""
    names = ("ECO2_REDIS_URL", "ECO2_AMQP_URL", "ECO2_GRACE_SECONDS", "ECO2_JWT_ISSUER", "ECO2_API_TOKENS_FILE")

    assert settings.from_env(dict.fromkeys(names, " ")) == settings.from_env({}) == settings()


def test_every_setting_of_the_worker_is_read() -> None:
    """The limits of each range are allowed."""
    environ = {
        "ECO2_GRACE_SECONDS": "0",
        "ECO2_WORKER_CONCURRENCY": "1",
        "ECO2_LEASE_SECONDS": "300",
        "ECO2_MAX_SHARED_CRASHES": "0",
        "ECO2_MAX_CRASHES_ALONE": "10",
    }

    assert WorkerSettings.from_env(environ) == WorkerSettings(
        grace_seconds=0, concurrency=1, lease_seconds=300, max_shared_crashes=0, max_crashes_alone=10
    )


def test_every_setting_of_the_queue_is_read() -> None:
    """The passwords are not shown."""
    environ = {
        "ECO2_REDIS_URL": "rediss://:hunter2@redis:6380/1",
        "ECO2_AMQP_URL": "amqps://eco2:hunter2@rabbitmq/",
        "ECO2_JOB_KEEP_SECONDS": "86401",
        "ECO2_MAX_WAITING_JOBS": "1",
        "ECO2_JOB_MAX_WAIT_SECONDS": "86400",
    }

    settings = QueueSettings.from_env(environ)

    assert settings == QueueSettings(
        redis_url="rediss://:hunter2@redis:6380/1",
        amqp_url="amqps://eco2:hunter2@rabbitmq/",
        keep_seconds=86_401,
        max_waiting=1,
        max_wait_seconds=86_400,
    )
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("keep", ["60", "61"])
def test_a_job_is_kept_longer_than_it_may_wait(keep: str) -> None:
    """Else a waiting job is gone for its reader and is run and paid afterwards."""
    environ = {"ECO2_JOB_KEEP_SECONDS": keep, "ECO2_JOB_MAX_WAIT_SECONDS": "60"}
    if keep == "61":
        assert QueueSettings.from_env(environ).keep_seconds == 61
        return

    with pytest.raises(GraphConfigError) as refused:
        QueueSettings.from_env(environ)

    assert str(refused.value) == (
        "ECO2_JOB_KEEP_SECONDS is 60, wanted more than ECO2_JOB_MAX_WAIT_SECONDS (60): a waiting job would expire, and "
        "be paid without a reader. Correct one of them."
    )


def test_every_setting_of_the_api_is_read(tmp_path: Path) -> None:
    """With tokens or JWTs the API authenticates."""
    tokens = tmp_path / "tokens.toml"
    tokens.touch()
    environ = {
        "ECO2_API_TOKENS_FILE": str(tokens),
        "ECO2_JWT_ISSUER": "https://id.example",
        "ECO2_JWT_AUDIENCE": "eco2",
        "ECO2_JWT_JWKS_URL": "https://id.example/jwks",
        "ECO2_JWT_TENANT_CLAIM": "org",
        "ECO2_TENANT_REQUESTS_PER_MINUTE": "1",
        "ECO2_TENANT_MAX_JOBS": "2",
        "ECO2_TENANT_MAX_STREAMS": "3",
        "ECO2_HEARTBEAT_SECONDS": "4",
    }

    settings = ApiSettings.from_env(environ)

    assert settings == ApiSettings(
        tokens_file=tokens,
        jwt_issuer="https://id.example",
        jwt_audience="eco2",
        jwt_jwks_url="https://id.example/jwks",
        jwt_tenant_claim="org",
        requests_per_minute=1,
        max_active_jobs=2,
        max_streams=3,
        heartbeat_seconds=4,
    )
    assert settings.authenticates
    assert not ApiSettings().authenticates


@pytest.mark.parametrize(
    ("settings", "name", "value", "got", "wanted"),
    [
        (QueueSettings, "ECO2_REDIS_URL", "http://:hunter2@redis", "begins with 'http'", _REDIS),
        (QueueSettings, "ECO2_REDIS_URL", "hunter2@redis:6379", "begins with no scheme", _REDIS),
        (QueueSettings, "ECO2_AMQP_URL", "redis://:hunter2@redis", "begins with 'redis'", _AMQP),
        (QueueSettings, "ECO2_JOB_KEEP_SECONDS", "59", "is '59'", "a whole number from 60 to 604800"),
        (QueueSettings, "ECO2_MAX_WAITING_JOBS", "0", "is '0'", "a whole number from 1 to 1000000"),
        (WorkerSettings, "ECO2_GRACE_SECONDS", "2.5", "is '2.5'", "a whole number from 0 to 3600"),
        (WorkerSettings, "ECO2_GRACE_SECONDS", "-1", "is '-1'", "a whole number from 0 to 3600"),
        (WorkerSettings, "ECO2_WORKER_CONCURRENCY", "0", "is '0'", "a whole number from 1 to 1000"),
        (WorkerSettings, "ECO2_LEASE_SECONDS", "\u0663", "is '\u0663'", "a whole number from 1 to 300"),
        (ApiSettings, "ECO2_TENANT_MAX_JOBS", "x", "is 'x'", "a whole number from 1 to 100000"),
        (ApiSettings, "ECO2_API_TOKENS_FILE", "/nowhere", "is '/nowhere'", "an existing file"),
    ],
)
def test_an_invalid_setting_is_refused(
    settings: type[WorkerSettings], name: str, value: str, got: str, wanted: str
) -> None:
    """The message contains the value and the wanted range, and no password."""
    with pytest.raises(GraphConfigError) as error:
        settings.from_env({name: value})

    assert str(error.value) == f"{name} {got}, wanted {wanted}; correct it or unset it."


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        pytest.param(
            ApiSettings,
            {"ECO2_JWT_ISSUER": "https://id.example"},
            "ECO2_JWT_AUDIENCE and ECO2_JWT_JWKS_URL is unset, wanted all of ECO2_JWT_ISSUER, ECO2_JWT_AUDIENCE, "
            "ECO2_JWT_JWKS_URL; set it or unset the others.",
            id="half_a_jwt",
        ),
        pytest.param(
            QueueSettings,
            {"ECO2_AMQP_URL": "amqp://rabbitmq"},
            "ECO2_AMQP_URL is set without ECO2_REDIS_URL, wanted both: a job's stream must reach every process. "
            "Set ECO2_REDIS_URL.",
            id="queue_without_streams",
        ),
    ],
)
def test_settings_that_belong_together_are_set_together(
    settings: type[WorkerSettings], environ: dict[str, str], message: str
) -> None:
    """The message names what is missing."""
    with pytest.raises(GraphConfigError) as error:
        settings.from_env(environ)

    assert str(error.value) == message


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


def test_a_dead_worker_s_job_can_start_again_within_five_seconds() -> None:
    """A run without a sign of its worker counts as dead after the lease; the next worker asks every second."""
    assert WorkerSettings().lease_seconds + 1.05 < 5
