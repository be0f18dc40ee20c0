"""Settings: the environment read once, when the application says so."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from eco2_callbacks.config import Settings
from eco2_callbacks.errors import ConfigError


@pytest.mark.parametrize("environ", [{}, {"ECO2_PRICES": ""}, {"ECO2_PRICES": "  "}], ids=["unset", "empty", "blank"])
def test_nothing_set_means_public_rates(environ: dict[str, str]) -> None:
    """An unset, empty or blank variable leaves the public rates."""
    assert Settings.from_env(environ) == Settings(prices=None)


def test_the_rates_file_is_taken_from_the_environment(tmp_path: Path) -> None:
    """ECO2_PRICES names the file of own rates; white space around it does not matter."""
    path = tmp_path / "rates.toml"
    path.touch()

    settings = Settings.from_env({"ECO2_PRICES": f" {path}\n"})

    assert settings == Settings(prices=path)


def test_the_process_environment_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping the process's own environment is read, at the call and not at import."""
    path = tmp_path / "rates.toml"
    path.touch()
    monkeypatch.setenv("ECO2_PRICES", str(path))

    assert Settings.from_env().prices == path


@pytest.mark.parametrize("name", ["absent.toml", ""], ids=["missing_file", "a_folder"])
def test_a_file_that_is_not_there_is_refused(tmp_path: Path, name: str) -> None:
    """A path that leads to no file is refused at the start, not at the first call."""
    path = tmp_path / name

    with pytest.raises(ConfigError) as raised:
        Settings.from_env({"ECO2_PRICES": str(path)})

    assert str(raised.value) == f"ECO2_PRICES is {str(path)!r}, wanted an existing file; correct it or unset it."


def test_settings_cannot_be_changed() -> None:
    """Settings are immutable."""
    with pytest.raises(FrozenInstanceError):
        Settings().prices = Path("x")  # type: ignore[misc]
