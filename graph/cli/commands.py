"""The commands: ``demo`` and ``chat`` show conversations; ``serve``, ``api`` and ``worker`` are servers."""

from __future__ import annotations

import argparse
import io
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graph.cli.conversations import CONVERSATIONS
from graph.cli.defaults import LEDGER, PORT

if TYPE_CHECKING:
    from graph.runtime import Runtime
    from graph.serving import ServeOptions

__all__ = ["main"]

_ROLES = ("serve", "api", "worker")


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
    try:
        return _run(options, runtime)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader closed the pipe. Without this, the interpreter's flush at exit would fail too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace, runtime: Runtime | None) -> int:
    """Import what the command needs, and run it."""
    if options.command == "dead-letters":
        from graph.cli.dead_letters import run_dead_letters  # noqa: PLC0415 - see above

        return run_dead_letters(job_ids=options.job, replay=options.replay)
    if runtime is None:
        from graph.runtime import Runtime  # noqa: PLC0415

        runtime = Runtime()
    if options.command == "chat":
        from graph.cli.chat import run_chat  # noqa: PLC0415

        return run_chat(runtime, options.message, image=options.image, session=options.session)
    if options.command in _ROLES:
        from graph.serving import run_server  # noqa: PLC0415

        return run_server(runtime, _serve_options(options))
    from graph.cli.demo import run_demo  # noqa: PLC0415

    return run_demo(
        runtime,
        names=options.intent,
        language=options.lang,
        provider=options.provider,
        speed=options.speed,
        as_numbers=options.json,
        port=options.serve,
        ledger=options.ledger,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m graph", description="The Eco2 chat worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    demo = commands.add_parser("demo", help="replay recorded conversations: no keys, no network")
    demo.add_argument(
        "--intent",
        action="append",
        choices=tuple(CONVERSATIONS["ko"]),
        help="replay this one: an intent, the picture (vision) or the long one (summarize); may be repeated",
    )
    demo.add_argument("--lang", choices=tuple(CONVERSATIONS), default="ko", help="the language of the conversations")
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
    serve = commands.add_parser("serve", help="API, worker and streams in one process, without other servers")
    serve.add_argument("--replay", action="store_true", help="answer from the recordings: no keys, no network")
    serve.add_argument("--speed", type=_speed, default=1.0, metavar="TIMES", help="of the recordings; 1 is real time")
    api = commands.add_parser("api", help="the API alone; jobs go to RabbitMQ, streams come from Redis")
    worker = commands.add_parser("worker", help="the worker alone: take jobs from RabbitMQ until SIGTERM")
    for server in (serve, api):
        server.add_argument("--host", default="127.0.0.1", help="beyond the loopback only with authentication")
        server.add_argument("--port", type=_port, default=8000, help="port of the API (8000)")
    for server in (serve, api, worker):
        server.add_argument("--metrics-port", type=_port, metavar="PORT", help="port of /metrics (ECO2_METRICS_PORT)")
    letters = commands.add_parser("dead-letters", help="list the jobs in the dead-letter queue, or run them again")
    letters.add_argument("--replay", action="store_true", help="put them back into the queue")
    letters.add_argument("--job", action="append", metavar="ID", help="only this job; may be repeated")
    return parser


def _serve_options(options: argparse.Namespace) -> ServeOptions:
    from graph.serving import ServeOptions  # noqa: PLC0415

    if options.command == "worker":
        return ServeOptions(role="worker", metrics_port=options.metrics_port)
    return ServeOptions(
        role=options.command,
        host=options.host,
        port=options.port,
        metrics_port=options.metrics_port,
        replay_speed=options.speed if getattr(options, "replay", False) else None,
    )


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
