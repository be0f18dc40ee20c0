"""The entry point of ``eco2``: runs one command and returns its exit status."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Sequence

from eco2_callbacks.errors import ConfigError, Eco2CallbacksError

__all__ = ["main"]

# The disk behind the output is full, or broken.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


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
        sys.stdout.flush()
    except Eco2CallbacksError as error:
        sys.stderr.write(f"eco2: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        _drop_output()  # the reader closed the pipe
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _drop_output()
        sys.stderr.write(f"eco2: The output cannot be written: {error.strerror}; write it to another disk.\n")
        return 1
    except Exception as error:
        if (shown := _usage_error(error)) is not None:
            return shown
        raise
    return status if isinstance(status, int) else 0


def _drop_output() -> None:
    """Write what is left of the output nowhere: the interpreter's own flush at exit would fail like ours."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


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
