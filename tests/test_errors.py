"""The errors: one hierarchy, the builtins that callers expect, and messages that say what to do."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from eco2_callbacks import errors
from eco2_callbacks.errors import ConfigError, Eco2CallbacksError, RatesFileError, UnknownModelError, UsageError


@pytest.mark.parametrize(
    ("error", "bases"),
    [
        (ConfigError("x"), (Eco2CallbacksError, ValueError)),
        (RatesFileError("rates.toml", "x"), (ConfigError, Eco2CallbacksError, ValueError)),
        (UnknownModelError("openai", "gpt-x", "2026-08-20"), (Eco2CallbacksError, LookupError)),
        (UsageError("input_tokens", 1, 2), (Eco2CallbacksError, ValueError)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_is_caught_by_its_root_and_by_its_builtin(error: Exception, bases: tuple[type, ...]) -> None:
    """Each error is an Eco2CallbacksError and the builtin that a caller would catch."""
    assert all(isinstance(error, base) for base in bases)


def test_unknown_model_says_what_to_do() -> None:
    """The message names model, provider and day, and how to add a price."""
    error = UnknownModelError("openai", "gpt-x", "2026-08-20")

    assert str(error) == (
        "No price for model 'gpt-x' of provider 'openai' on 2026-08-20; "
        "add it to the file named by ECO2_PRICES or pass prices=."
    )
    assert (error.provider, error.model, error.day) == ("openai", "gpt-x", "2026-08-20")


def test_usage_error_shows_both_counts() -> None:
    """The message shows both contradicting counts and what was wanted."""
    error = UsageError("input_tokens", 10, 11)

    assert str(error) == (
        "The parts of input_tokens sum to 11, more than the 10 it holds; pass counts that include their own parts."
    )
    assert (error.whole, error.total, error.parts) == ("input_tokens", 10, 11)


def test_rates_file_error_names_the_file() -> None:
    """The message names the file and the problem, and the error keeps the path as given."""
    error = RatesFileError(Path("own") / "rates.toml", "no valid TOML.")

    assert str(error) == "Rates file 'own/rates.toml': no valid TOML."
    assert error.path == Path("own/rates.toml")


def test_the_tree_in_the_docstring_is_complete() -> None:
    """The tree in the module's docstring shows every error."""
    drawing = errors.__doc__ or ""

    assert [name for name in errors.__all__ if name not in drawing] == []
    assert sorted(errors.__all__) == sorted(
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)
    )


@pytest.mark.parametrize(
    "error",
    [
        UnknownModelError("openai", "gpt-x", "2026-11-20"),
        UsageError("input_tokens", 5, 7),
        RatesFileError("rates.toml", "no valid TOML."),
    ],
    ids=["unknown_model", "usage", "rates_file"],
)
def test_an_error_survives_a_process_boundary(error: Exception) -> None:
    """An error can be pickled and arrives complete in another process."""
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
