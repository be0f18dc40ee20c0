"""The errors: one tree, builtins a caller expects, and messages that say what to do."""

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
    """Each error is one of ours and one of the builtins a caller would name."""
    assert all(isinstance(error, base) for base in bases)


def test_unknown_model_says_what_to_do() -> None:
    """An unknown model is named with provider and day, and the way to price it."""
    error = UnknownModelError("openai", "gpt-x", "2026-08-20")

    assert str(error) == (
        "No price for model 'gpt-x' of provider 'openai' on 2026-08-20; "
        "add it to the file named by ECO2_PRICES or pass prices=."
    )
    assert (error.provider, error.model, error.day) == ("openai", "gpt-x", "2026-08-20")


def test_usage_error_shows_both_counts() -> None:
    """Contradicting counts are shown, with what was wanted."""
    error = UsageError("input_tokens", 10, 11)

    assert str(error) == (
        "The parts of input_tokens sum to 11, more than the 10 it holds; pass counts that include their own parts."
    )
    assert (error.whole, error.total, error.parts) == ("input_tokens", 10, 11)


def test_rates_file_error_names_the_file() -> None:
    """A file of rates that cannot be read is named with its problem, and kept as it was given."""
    error = RatesFileError(Path("own") / "rates.toml", "no valid TOML.")

    assert str(error) == "Rates file 'own/rates.toml': no valid TOML."
    assert error.path == Path("own/rates.toml")


def test_the_tree_in_the_docstring_is_complete() -> None:
    """The module's drawing shows every error there is, below its own base."""
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
    """A worker's error arrives whole at the process that waits for it."""
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
