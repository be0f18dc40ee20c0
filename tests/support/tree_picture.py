"""Draws the README's picture of a request from the demo: ``python -m tests.support.tree_picture`` writes it."""

from __future__ import annotations

import asyncio
import io
import re
from pathlib import Path

from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME
from rich.text import Text

from eco2_callbacks import Settings, run_config
from eco2_callbacks.terminal import RequestTree, Timeline
from graph import build_graph
from graph.app import make_handler
from graph.cli import CONVERSATIONS, cassette_folder
from graph.replay import REPLAY_SETTINGS, ReplayClock, ReplayLoop, clean_environment, replay
from graph.runtime import CASSETTES
from graph.state import turn

__all__ = ["PICTURE", "draw", "tree_as_text"]

PICTURE = Path(__file__).parents[2] / "docs" / "images" / "tree.svg"
_WIDTH = 92


def draw() -> str:
    """Return the picture of the English question about waste."""
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    message, trace = _replayed("en")
    console.print(Text(f"> {message}", style="bold"))
    console.print(RequestTree(trace))
    svg = console.export_svg(title="python -m graph demo --lang en", theme=DEFAULT_TERMINAL_THEME, unique_id="tree")
    # The picture is shown without the fonts of another host.
    return re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)


def tree_as_text(language: str) -> str:
    """Return what the demo prints of the same question, without colours."""
    console = Console(width=80, file=io.StringIO())
    message, trace = _replayed(language)
    console.print(f"> {message}", highlight=False)
    console.print(RequestTree(trace))
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())  # type: ignore[attr-defined]


def _replayed(language: str) -> tuple[str, object]:
    clock, message = ReplayClock(1000), CONVERSATIONS[language]["waste"].message
    timeline = Timeline(now=clock.now, answer_node="answer")
    path = cassette_folder(CASSETTES, provider="openai", language=language) / "waste.yaml"
    with (
        clean_environment(**REPLAY_SETTINGS),
        make_handler(
            Settings(), sinks=[timeline], registry=CollectorRegistry(), clock=clock.seconds, now=clock.now
        ) as handler,
        replay(path, clock=clock),
        asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner,
    ):
        runner.run(build_graph().ainvoke(turn(message), run_config(handler, job_id="1")))
    return message, timeline.traces[0]


if __name__ == "__main__":
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(), encoding="utf-8")
