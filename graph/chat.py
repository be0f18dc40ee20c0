"""The chat: one turn with the real providers, its answer streamed."""

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

import filetype
from prometheus_client import CollectorRegistry
from rich.console import Console

from eco2_callbacks import ConfigError, Eco2CallbackHandler, Settings, run_config
from graph.errors import GraphConfigError
from graph.stage import Stage
from graph.timeline import Timeline
from graph.view import Conversation, is_live, live, plain, tree, wide_enough

__all__ = ["ImageError", "chat", "image_url"]

_IMAGES = ("image/jpeg", "image/png", "image/webp")  # what both providers take
_MOST_MEGABYTES = 10  # Gemini takes requests of 20 MB, and base64 adds a third


class ImageError(ValueError):
    """A file that cannot be sent as a picture."""


def chat(stage: Stage, message: str, *, image: Path | None = None, session: str | None = None) -> int:
    """Ask, stream the answer to standard output, and return the exit status.

    In a terminal the tree grows above the answer. Otherwise standard output holds the answer alone, and the tree goes
    to standard error.

    Args:
        stage: What it is played on.
        message: What the user asks; it may be empty where a picture says it.
        image: A picture that comes with it.
        session: The conversation that it goes on with; None begins one.
    """
    errors = wide_enough(Console(stderr=True))
    message = message.strip()
    if not message and image is None:
        return _fail(errors, "The message is empty, wanted a question or a picture; write one or add --image FILE.", 2)
    try:
        turn = stage.turn(message, image=image_url(image) if image else "")
        settings = Settings.from_env()
        stage.check()
    except (ConfigError, GraphConfigError, ImageError) as error:
        return _fail(errors, str(error), 2)
    if session is not None and os.environ.get("ECO2_CHECKPOINTS", "memory") in {"", "memory"}:
        _say(errors, "ECO2_CHECKPOINTS is unset, so the session is forgotten at the end; 'sqlite:///eco2.db' keeps it.")
    console = wide_enough(Console())
    drawn = is_live(console)
    job_id, session = uuid4(), session or str(uuid4())
    timeline = Timeline(on_text=None if drawn else _write)
    conversation = Conversation(message, timeline, 0)
    try:
        with (
            ExitStack() as stack,
            stage.make_handler(settings, sinks=[timeline], registry=CollectorRegistry()) as handler,
        ):
            if drawn:
                stack.enter_context(live(console, conversation))
            state = asyncio.run(_ask(stage, turn, handler, timeline, job_id, session))
            conversation.answer = state.get("answer", "")
    except (ConfigError, GraphConfigError) as error:
        return _fail(errors, str(error), 2)
    except Exception as error:
        return _fail(errors, f"The request failed: {type(error).__name__}: {error}", 1)
    if not drawn:
        # An answer that no model wrote was not streamed.
        print("" if timeline.traces[0].answer else plain(conversation.answer), flush=True)
        errors.print(tree(timeline.traces[0]))
    _say(errors, f"metadata.job_id {job_id}, --session {session}", style="dim")
    for url in state.get("images", ()):
        _say(errors, f"A picture was made: {_saved(url)}")
    return 0


def image_url(path: Path) -> str:
    """Return a picture's data URL.

    Raises:
        ImageError: If it cannot be read, is too large, or is none that the providers take.
    """
    try:
        size_megabytes = path.stat().st_size / 1e6
        if size_megabytes > _MOST_MEGABYTES:
            raise ImageError(f"{path} has {size_megabytes:.1f} MB, wanted at most {_MOST_MEGABYTES}; scale it down.")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path} cannot be read: {error.strerror}.") from error
    if (mime := filetype.guess_mime(content) if content else None) not in _IMAGES:
        raise ImageError(f"{path} is {mime or 'of an unknown type'}, wanted one of {', '.join(_IMAGES)}.")
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


async def _ask(
    stage: Stage,
    turn: dict[str, Any],
    handler: Eco2CallbackHandler,
    timeline: Timeline,
    job_id: UUID,
    session: str,
) -> dict[str, Any]:
    config = run_config(handler, job_id=job_id, session_id=session)
    config["callbacks"] = [handler, timeline]
    async with stage.graph() as graph:
        return await graph.ainvoke(turn, config)


def _write(text: str) -> None:
    sys.stdout.write(plain(text))
    sys.stdout.flush()


def _saved(url: str) -> str:
    """Write a picture that was made into a temporary file, and return its path."""
    head, _, content = url.partition(",")
    suffix = f".{head.partition('/')[2].partition(';')[0]}"
    with tempfile.NamedTemporaryFile(prefix="eco2-", suffix=suffix, delete=False) as file:
        file.write(base64.b64decode(content))
    return file.name


def _fail(console: Console, sentence: str, status: int) -> int:
    _say(console, sentence)
    return status


def _say(console: Console, sentence: str, *, style: str = "") -> None:
    console.print(sentence, style=style, markup=False, highlight=False, soft_wrap=True)
