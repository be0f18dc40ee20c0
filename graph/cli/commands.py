"""The commands: ``demo`` replays conversations, ``chat`` asks one question, ``worker`` serves many requests."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from graph.cli.chat import run_chat
from graph.cli.demo import LEDGER, PORT, QUESTIONS, run_demo
from graph.runtime import Runtime
from graph.worker import run_worker

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, runtime: Runtime | None = None) -> int:
    """Run one command and return its exit status.

    ====  ===========================================
    0     success
    1     failure
    2     a setting is missing or invalid
    130   Ctrl-C
    ====  ===========================================
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # for terminals that cannot write Korean
    options = _parser().parse_args(argv)
    runtime = runtime or Runtime()
    try:
        if options.command == "chat":
            return run_chat(runtime, options.message, image=options.image, session=options.session)
        if options.command == "worker":
            return run_worker(runtime)
        return run_demo(
            runtime,
            intents=options.intent or tuple(QUESTIONS),
            provider=options.provider,
            speed=options.speed,
            as_numbers=options.json,
            port=options.serve,
            ledger=options.ledger,
        )
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader closed the pipe. Without this, the interpreter's flush at exit would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graph", description="The Eco2 chat worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="replay recorded conversations: no keys, no network")
    demo.add_argument("--intent", action="append", choices=tuple(QUESTIONS), help="replay this one; may be repeated")
    demo.add_argument("--provider", choices=("openai", "google"), default="openai", help="the provider's recordings")
    demo.add_argument(
        "--speed", type=_speed, metavar="TIMES", help="1 is real time; the default fits into half a minute"
    )
    demo.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    demo.add_argument(
        "--ledger", metavar="URL", default=LEDGER, help=f"the ledger that keeps the records: a path or a URL ({LEDGER})"
    )
    demo.add_argument(
        "--serve", type=_port, nargs="?", const=PORT, metavar="PORT", help=f"serve /metrics until Ctrl-C ({PORT})"
    )
    chat = commands.add_parser("chat", help="ask a question with your own keys")
    chat.add_argument("message", help="the question")
    chat.add_argument("--image", type=Path, metavar="FILE", help="an image: JPEG, PNG or WebP")
    chat.add_argument("--session", metavar="ID", help="the conversation to continue")
    commands.add_parser("worker", help="take jobs from Redis until SIGTERM")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) not in range(65536):
        raise argparse.ArgumentTypeError(f"it is {text!r}, wanted a number from 0 to 65535")
    return int(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = math.nan
    if not (math.isfinite(speed) and speed > 0):
        raise argparse.ArgumentTypeError(f"it is {text!r}, wanted a number above 0, for example 1 for real time")
    return speed
