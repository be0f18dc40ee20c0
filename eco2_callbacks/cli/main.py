"""The entry point of ``eco2``: runs one command and returns its exit status."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence

from eco2_callbacks.errors import ConfigError, Eco2CallbacksError

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    ====  ==============================================================
    0     success
    1     failure: no ledger, nothing in the period, an unreachable server
    2     an option or a setting cannot be used
    130   Ctrl-C
    ====  ==============================================================
    """
    from eco2_callbacks.cli.app import build_app  # noqa: PLC0415  typer and rich are loaded here first

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot write every name
    try:
        status = build_app()(list(argv) if argv is not None else None, standalone_mode=False)
    except Eco2CallbacksError as error:
        sys.stderr.write(f"eco2: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader closed the pipe. Without this, the interpreter's flush at exit would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if (shown := _usage_error(error)) is not None:
            return shown
        raise
    return status if isinstance(status, int) else 0


def _usage_error(error: Exception) -> int | None:
    """Show an error of the command line's parser and return its status; None if it is none."""
    show, code = getattr(error, "show", None), getattr(error, "exit_code", None)
    if not isinstance(code, int):
        return None
    if callable(show):
        show()
    elif type(error).__name__ == "Abort":
        return 130
    return code
