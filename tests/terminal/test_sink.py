"""TerminalSink: one line shows any application's requests, in a terminal, a pipe, a notebook."""

from __future__ import annotations

import asyncio
import io
import os
import re
import subprocess
import sys
from typing import Any

import pytest
from langgraph.graph import END, START, StateGraph
from prometheus_client import CollectorRegistry
from rich.cells import cell_len
from typing_extensions import TypedDict

from eco2_callbacks import ConfigError, Eco2CallbackHandler, TerminalSink, TokenUsage
from eco2_callbacks.testing import FakeChatModel

USAGE = TokenUsage(input_tokens=2000, cache_read_tokens=1500, output_tokens=100)
PROGRAM = """
from eco2_callbacks import Eco2CallbackHandler, TerminalSink, TokenUsage
from eco2_callbacks.testing import FakeChatModel
from langchain_core.runnables import RunnableLambda
model = FakeChatModel(usage=TokenUsage(input_tokens=2000, cache_read_tokens=1500, output_tokens=100))
chain = RunnableLambda(lambda text: text) | model
chain.invoke("x", {"callbacks": [Eco2CallbackHandler(sinks=[TerminalSink()])]})
"""


class State(TypedDict, total=False):
    text: str


def graph(model: Any = None) -> Any:
    model = model or FakeChatModel(usage=USAGE)

    def search(state: State) -> State:
        return {}

    def answer(state: State) -> State:
        return {"text": model.invoke("x").text}

    builder = StateGraph(State)
    builder.add_node(search)
    builder.add_node(answer)
    builder.add_edge(START, "search")
    builder.add_edge("search", "answer")
    builder.add_edge("answer", END)
    return builder.compile()


def shown(sink_arguments: dict[str, Any], **config: Any) -> str:
    file = io.StringIO()
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[TerminalSink(file=file, **sink_arguments)]) as h:
        graph().invoke({}, {"callbacks": [h], **config})
    return file.getvalue()


@pytest.mark.parametrize("width", [60, 100])
def test_a_pipe_gets_the_final_tree(width: int) -> None:
    """A graph that knows nothing of the sink is drawn with its nodes, cached tokens and dollars, without escapes."""
    text = shown({"width": width}, metadata={"intent": "recycling"})

    # gpt-5.2: (500 x 1.75 + 1500 x 0.175 + 100 x 14) / 1e6 = 0.0025375
    header, request, search, answer = text.splitlines()
    assert "cached" in header
    assert request.startswith("recycling")
    assert search.startswith("├─ search")
    assert answer.startswith("╰─ answer")
    assert answer.split()[-1] == request.split()[-1] == ("0.0025" if width == 60 else "0.00253750")
    assert answer.split()[-3] == ("1.5k" if width == 60 else "1,500")
    assert "█" in request
    assert "\x1b" not in text
    assert max(cell_len(line) for line in text.splitlines()) <= width


def test_standard_output_of_a_program_in_a_pipe() -> None:
    """TerminalSink() alone writes to standard output; an encoding without lines gets plain characters."""
    environment = {**os.environ, "COLUMNS": "60", "NO_COLOR": "1", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}

    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, env=environment, check=True)

    text = done.stdout.decode("ascii")
    assert re.search(r"^`- gpt-5\.2 .*[#|]", text, re.MULTILINE)
    assert re.search(r"^request +#+ ", text, re.MULTILINE)
    assert "1.5k" in text
    assert "?" not in text
    assert done.stderr == b""


@pytest.mark.parametrize("no_color", [False, True])
def test_a_terminal_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch, no_color: bool) -> None:
    """A terminal shows running requests and then the final tree; NO_COLOR leaves the colours out."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")

    text = shown({"width": 90})

    assert "\x1b[?25l" in text  # the cursor is hidden while it redraws
    assert text.rstrip().endswith("\x1b[?25h")  # and comes back
    # A bar has a foreground colour and, where it is wide, a background after it.
    assert bool(re.search(r"\x1b\[(?:[0-9;]*;)?3[0-7][;m]", text)) is not no_color
    assert "0.00253750" in text


async def test_requests_at_once_are_each_shown_whole() -> None:
    """Each of many concurrent requests gets one tree of its own, and the screen is released after the last."""
    file = io.StringIO()
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[TerminalSink(file=file, width=80, live=True)])
    app = graph(FakeChatModel(usage=USAGE, pause_seconds=0.01))

    await asyncio.gather(
        *(app.ainvoke({}, {"callbacks": [handler], "metadata": {"intent": f"intent-{n}"}}) for n in range(5))
    )

    final = file.getvalue()
    for number in range(5):
        assert re.search(rf"^\S*intent-{number} ", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", final), re.MULTILINE)
    assert sys.stdout is not None
    assert type(sys.stdout).__name__ != "FileProxy"


def test_a_failed_request_is_shown_with_its_error() -> None:
    """A request that raises is drawn up to its failure."""
    file = io.StringIO()
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[TerminalSink(file=file, width=80)])

    with pytest.raises(TimeoutError):
        graph(FakeChatModel(answers=[TimeoutError("x")])).invoke({}, {"callbacks": [handler]})

    assert "✗ answer" in file.getvalue()
    assert "answer: failed (TimeoutError)" in file.getvalue()


@pytest.mark.parametrize("width", [39, "80", True])
def test_an_impossible_width_is_refused(width: Any) -> None:
    """The error says what came, what is wanted and what to do."""
    with pytest.raises(ConfigError, match=r"width= is .*, wanted at least 40 columns; leave it out"):
        TerminalSink(width=width)


@pytest.mark.slow
def test_a_notebook_shows_one_output_that_is_updated() -> None:
    """In Jupyter a request is one HTML output of its cell: it is updated while it runs, and holds the final tree."""
    nbclient = pytest.importorskip("nbclient")
    from nbformat.v4 import new_code_cell, new_notebook

    slow = PROGRAM.replace("FakeChatModel(", "FakeChatModel(pause_seconds=0.5, ")
    notebook = new_notebook(cells=[new_code_cell(slow + "\nanswer = None")])

    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()

    (output,) = notebook.cells[0].outputs
    assert output.output_type == "display_data"
    assert "<pre" in output.data["text/html"]
    assert "gpt-5.2" in output.data["text/plain"]
    assert "0.00253750" in output.data["text/plain"]
