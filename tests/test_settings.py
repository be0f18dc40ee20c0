"""Settings: the environment is read once, when the application calls from_env."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from eco2_callbacks import settings
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.settings import Settings


@pytest.mark.parametrize("environ", [{}, {"ECO2_PRICES": ""}, {"ECO2_PRICES": "  "}], ids=["unset", "empty", "blank"])
def test_nothing_set_means_public_rates(environ: dict[str, str]) -> None:
    """An unset, empty or blank variable leaves the public rates."""
    assert Settings.from_env(environ) == Settings()
    assert Settings().prices is None


def test_the_rates_file_is_taken_from_the_environment(tmp_path: Path) -> None:
    """ECO2_PRICES names the file of custom rates; white space around it is ignored."""
    path = tmp_path / "rates.toml"
    path.touch()

    settings = Settings.from_env({"ECO2_PRICES": f" {path}\n"})

    assert settings == Settings(prices=path)


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's environment is read, at the call and not at import."""
    path = tmp_path / "rates.toml"
    path.touch()
    monkeypatch.setenv("ECO2_PRICES", str(path))

    assert Settings.from_env().prices == path


@pytest.mark.parametrize("name", ["absent.toml", ""], ids=["missing_file", "a_folder"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str) -> None:
    """A path without a file is refused at construction, not at the first call."""
    path = tmp_path / name

    with pytest.raises(ConfigError) as raised:
        Settings.from_env({"ECO2_PRICES": str(path)})

    assert str(raised.value) == f"ECO2_PRICES is {str(path)!r}, wanted an existing file; correct it or unset it."


KEY = "lsv2_pt_s3cret"
EVERYTHING = {
    "ECO2_ENVIRONMENT": " production ",
    "LANGSMITH_TRACING": "true",
    "LANGSMITH_API_KEY": f" {KEY}\n",
    "LANGSMITH_ENDPOINT": "https://eu.api.smith.langchain.com/",
    "LANGSMITH_PROJECT": "eco2",
    "LANGSMITH_OTEL_ENABLED": "true",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:s3cret@collector:4318",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-token=s3cret",
}


@pytest.fixture
def logged_settings(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> Callable[[dict[str, str]], list[str]]:
    """Return a function that reads the settings and returns the log lines with their levels."""
    monkeypatch.setattr("eco2_callbacks.langsmith.env_checks.find_spec", lambda module: object())

    def read(environ: dict[str, str]) -> list[str]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            Settings.from_env(environ)
        assert {record.name for record in caplog.records} == {settings.__name__}
        return [f"{record.levelname}: {record.getMessage()}" for record in caplog.records]

    return read


def test_tracing_is_read_from_the_environment() -> None:
    """Every setting of LangSmith and OTLP is read as the SDK reads it."""
    assert Settings.from_env(EVERYTHING) == Settings(
        environment="production",
        tracing=True,
        langsmith_api_key=KEY,
        langsmith_endpoint="https://eu.api.smith.langchain.com",
        project="eco2",
        otel="hybrid",
        otlp_endpoint="http://user:s3cret@collector:4318/v1/traces",
    )


def test_the_older_names_are_read_too() -> None:
    """The older LANGCHAIN_ names are read as well."""
    older = {
        "LANGCHAIN_TRACING_V2": "true",
        "LANGCHAIN_API_KEY": KEY,
        "LANGCHAIN_ENDPOINT": "http://langsmith.internal",
        "LANGCHAIN_PROJECT": "eco2",
    }

    assert Settings.from_env(older) == Settings(
        tracing=True, langsmith_api_key=KEY, langsmith_endpoint="http://langsmith.internal", project="eco2"
    )


def test_the_key_is_not_shown() -> None:
    """The repr of the settings shows no key."""
    assert KEY not in repr(Settings.from_env(EVERYTHING))


@pytest.mark.parametrize(
    ("environ", "line"),
    [
        ({}, "tracing off; public rates; no environment tag"),
        ({"LANGSMITH_API_KEY": KEY}, "tracing off, although a LangSmith key is set; public rates; no environment tag"),
        (
            {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": KEY},
            "tracing to LangSmith (project 'default', https://api.smith.langchain.com); public rates; "
            "no environment tag",
        ),
        (
            EVERYTHING,
            "tracing to LangSmith (project 'eco2', https://eu.api.smith.langchain.com) and "
            "OTLP (http://collector:4318/v1/traces); public rates; environment 'production'",
        ),
        (
            {**EVERYTHING, "LANGSMITH_OTEL_ONLY": "true"},
            "tracing to OTLP (http://collector:4318/v1/traces) alone; public rates; environment 'production'",
        ),
        (
            {"LANGSMITH_TRACING": "true", "LANGSMITH_TRACING_MODE": "otel", "LANGSMITH_API_KEY": KEY},
            "tracing to OTLP (https://api.smith.langchain.com/otel/v1/traces) alone; public rates; no environment tag",
        ),
    ],
    ids=["nothing", "key_only", "langsmith", "both", "otlp_only", "otlp_at_langsmith"],
)
def test_the_settings_are_logged_in_one_line(
    logged_settings: Callable[[dict[str, str]], list[str]], environ: dict[str, str], line: str
) -> None:
    """The line says where runs are sent, which rates apply and which environment, without passwords."""
    assert logged_settings(environ) == [f"INFO: Settings: {line}."]


def test_ledger_and_budgets_are_read_and_logged_without_the_address(
    logged_settings: Callable[[dict[str, str]], list[str]], tmp_path: Path
) -> None:
    """A ledger's URL can hold a password: the line says only that there is one."""
    path = tmp_path / "budgets.toml"
    path.touch()
    environ = {"ECO2_LEDGER": "postgresql://eco2:SECRET@db/eco2", "ECO2_BUDGETS": str(path)}

    assert logged_settings(environ) == [
        f"INFO: Settings: tracing off; public rates; no environment tag; a ledger; budgets from {path}."
    ]
    settings = Settings.from_env(environ)
    assert (settings.ledger, settings.budgets) == (environ["ECO2_LEDGER"], path)
    assert "SECRET" not in repr(settings)


def test_a_missing_file_of_budgets_is_an_error() -> None:
    """Budgets that cannot be read would stop nothing: the start fails."""
    with pytest.raises(ConfigError, match=r"ECO2_BUDGETS is 'no\.toml', wanted an existing file"):
        Settings.from_env({"ECO2_BUDGETS": "no.toml"})


def test_the_file_of_custom_rates_is_logged(
    logged_settings: Callable[[dict[str, str]], list[str]], tmp_path: Path
) -> None:
    """The line names the file of custom rates."""
    path = tmp_path / "rates.toml"
    path.touch()

    assert logged_settings({"ECO2_PRICES": str(path)}) == [
        f"INFO: Settings: tracing off; custom rates from {path}; no environment tag."
    ]


def test_tracing_without_a_key_is_a_warning(logged_settings: Callable[[dict[str, str]], list[str]]) -> None:
    """Tracing without a key gives a warning, and the settings are read all the same."""
    assert logged_settings({"LANGSMITH_TRACING": "true"}) == [
        "INFO: Settings: tracing to LangSmith (project 'default', https://api.smith.langchain.com); public rates; "
        "no environment tag.",
        "WARNING: LANGSMITH_API_KEY is unset while tracing is on, wanted a key for https://api.smith.langchain.com: "
        "no run arrives there; set it, or set LANGSMITH_TRACING to 'false'.",
    ]


def test_no_tracing_setting_stops_the_application(logged_settings: Callable[[dict[str, str]], list[str]]) -> None:
    """An invalid value in every variable gives warnings, never an exception."""
    invalid = dict.fromkeys(
        (
            *("LANGSMITH_TRACING", "LANGCHAIN_TRACING", "LANGSMITH_ENDPOINT", "LANGSMITH_TRACING_MODE"),
            *("LANGSMITH_OTEL_ENABLED", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ),
        "http://[%s",
    )

    for tracing in ("http://[%s", "true"):
        first, *others = logged_settings({**invalid, "LANGSMITH_TRACING": tracing})

        assert first.startswith("INFO: Settings: tracing ")
        assert others
        assert all(line.startswith("WARNING: ") for line in others)


def test_settings_cannot_be_changed() -> None:
    """Settings are immutable."""
    with pytest.raises(FrozenInstanceError):
        Settings().prices = Path("x")  # type: ignore[misc]
