"""The chat command: runs one turn with the real providers and streams the answer."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from prometheus_client import CollectorRegistry
from rich.console import Console

from eco2_callbacks import ConfigError, Eco2CallbackHandler, Settings, run_config
from eco2_callbacks.terminal import RequestTree, Timeline
from graph.cli.answers import CollectedAnswer
from graph.cli.images import ImageError, image_url
from graph.cli.view import ConversationView, is_live, live, strip_controls, wide_enough
from graph.errors import GraphConfigError
from graph.runtime import Runtime

__all__ = ["run_chat"]


def run_chat(runtime: Runtime, message: str, *, image: Path | None = None, session: str | None = None) -> int:
    """Ask a question, stream the answer to standard output, and return the exit status.

    A terminal shows the growing tree above the answer. Otherwise standard output contains the answer alone, and
    standard error the tree.

    Args:
        runtime: The graph and its dependencies.
        message: The question; may be empty if there is an image.
        image: An image to send.
        session: The conversation to continue; None starts a new one.
    """
    errors = wide_enough(Console(stderr=True))
    message = message.strip()
    if not message and image is None:
        return _fail(errors, "The message is empty, wanted a question or an image; write one or add --image FILE.", 2)
    try:
        turn = runtime.make_turn(message, image=image_url(image) if image else "")
        settings = Settings.from_env()
        runtime.check_models()
    except (ConfigError, GraphConfigError, ImageError) as error:
        return _fail(errors, str(error), 2)
    if session is not None and os.environ.get("ECO2_CHECKPOINTS", "memory") in {"", "memory"}:
        _print_line(
            errors, "ECO2_CHECKPOINTS is unset, so the session ends with this command; 'sqlite:///eco2.db' keeps it."
        )
    console = wide_enough(Console())
    redrawn = is_live(console)
    job_id, session = uuid4(), session or str(uuid4())
    timeline, stream = Timeline(answer_node="answer"), CollectedAnswer(on_text=None if redrawn else _write)
    conversation = ConversationView(message, timeline, stream, 0)
    try:
        with (
            ExitStack() as stack,
            runtime.make_handler(settings, sinks=[timeline], registry=CollectorRegistry()) as handler,
        ):
            if redrawn:
                stack.enter_context(live(console, conversation))
            state = asyncio.run(_run_turn(runtime, turn, handler, stream, job_id, session))
            conversation.answer = state.get("answer", "")
    except (ConfigError, GraphConfigError) as error:
        return _fail(errors, str(error), 2)
    except Exception as error:
        return _fail(errors, f"The request failed: {type(error).__name__}: {error}", 1)
    if not redrawn:
        # If no model wrote the answer, it was not streamed.
        print("" if stream.text else strip_controls(conversation.answer), flush=True)
        errors.print(RequestTree(timeline.traces[0]))
    _print_line(errors, f"metadata.job_id {job_id}, --session {session}", style="dim")
    for url in state.get("images", ()):
        _print_line(errors, f"Image saved to {_save(url)}")
    return 0


async def _run_turn(
    runtime: Runtime,
    turn: dict[str, Any],
    handler: Eco2CallbackHandler,
    stream: CollectedAnswer,
    job_id: UUID,
    session: str,
) -> dict[str, Any]:
    config = run_config(handler, job_id=job_id, session_id=session)
    config["callbacks"] = [handler, stream]
    async with runtime.open_graph() as graph:
        return await graph.ainvoke(turn, config)


def _write(text: str) -> None:
    sys.stdout.write(strip_controls(text))
    sys.stdout.flush()


def _save(url: str) -> str:
    """Write a generated image into a temporary file and return its path."""
    head, _, content = url.partition(",")
    suffix = f".{head.partition('/')[2].partition(';')[0]}"
    with tempfile.NamedTemporaryFile(prefix="eco2-", suffix=suffix, delete=False) as file:
        file.write(base64.b64decode(content))
    return file.name


def _fail(console: Console, sentence: str, status: int) -> int:
    _print_line(console, sentence)
    return status


def _print_line(console: Console, sentence: str, *, style: str = "") -> None:
    console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
