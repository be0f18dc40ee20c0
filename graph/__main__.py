"""The command line, ``python -m graph``: ``demo`` replays conversations, ``chat`` has one, ``worker`` serves many."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from graph.chat import chat
from graph.demo import PORT, QUESTIONS, demo
from graph.stage import Stage
from graph.worker import worker

__all__ = ["main"]


def main(argv: Sequence[str] | None = None, *, stage: Stage | None = None) -> int:
    """Run one command and return its exit status: 0, 1 on a failure, 2 where a setting is missing, 130 on Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # Korean on a terminal that cannot write it
    options = _parser().parse_args(argv)
    stage = stage or Stage()
    try:
        if options.command == "chat":
            return chat(stage, options.message, image=options.image, session=options.session)
        if options.command == "worker":
            return worker(stage)
        return demo(
            stage,
            intents=options.intent or tuple(QUESTIONS),
            provider=options.provider,
            speed=options.speed,
            as_numbers=options.json,
            port=options.serve,
        )
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough; the interpreter's own flush at the end would complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graph", description="The Eco2 chat worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    played = commands.add_parser("demo", help="replay recorded conversations: no keys, no network")
    played.add_argument("--intent", action="append", choices=tuple(QUESTIONS), help="only this one; may be repeated")
    played.add_argument("--provider", choices=("openai", "google"), default="openai", help="whose recordings")
    played.add_argument(
        "--speed", type=_speed, metavar="TIMES", help="1 is real time; by default what fits half a minute"
    )
    played.add_argument("--json", action="store_true", help="print the figures as JSON and nothing else")
    played.add_argument(
        "--serve", type=_port, nargs="?", const=PORT, metavar="PORT", help=f"serve /metrics until Ctrl-C ({PORT})"
    )
    asked = commands.add_parser("chat", help="ask with keys of your own")
    asked.add_argument("message", help="what to ask")
    asked.add_argument("--image", type=Path, metavar="FILE", help="a picture: JPEG, PNG or WebP")
    asked.add_argument("--session", metavar="ID", help="the conversation to go on with")
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
        raise argparse.ArgumentTypeError(f"it is {text!r}, wanted a number above 0, such as 1 for real time")
    return speed


if __name__ == "__main__":
    sys.exit(main())
