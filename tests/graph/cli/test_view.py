"""What the command line shows around the tree: the conversation, and the totals of all requests."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from rich.console import Console

from eco2_callbacks import Cost, GraphRun, LLMCall, NodeRun, RunStart, TokenUsage
from eco2_callbacks.terminal import Timeline
from graph.cli.answers import CollectedAnswer
from graph.cli.summary import summary
from graph.cli.view import (
    ConversationView,
    is_live,
    live,
    strip_controls,
    totals_table,
    wide_enough,
)
from tests.support import fake_runtime
from tests.support.manual_clock import STARTED_AT, ManualClock

QUESTION = "강남역 근처 페트병 분리수거함 어디있어?"


@pytest.mark.parametrize(("width", "used"), [(40, 80), (80, 80), (100, 100), (140, 140), (300, 140)])
def test_the_width_of_the_console_is_limited(width: int, used: int) -> None:
    """The width is at least 80 and at most 140 columns."""
    assert wide_enough(Console(file=io.StringIO(), width=width)).width == used


def test_control_characters_are_removed() -> None:
    """Control characters are removed; line feeds, tabs and Korean stay."""
    assert strip_controls("\x1b[31m빨강\x07\r\n\t끝\x9b1m") == "[31m빨강\n\t끝1m"


async def test_the_answer_is_passed_on_while_it_streams() -> None:
    """``on_text`` receives the pieces of the answer node's stream and of no other model."""
    pieces: list[str] = []
    stream = CollectedAnswer(on_text=pieces.append)
    await fake_runtime.build().ainvoke({"message": QUESTION}, {"callbacks": [stream]})

    assert pieces == ["강남역 ", "11번 출구 앞에 ", "페트병 수거함이 있습니다."]
    assert stream.text == "".join(pieces)


def test_totals_by_node_model_and_intent_add_up(finished: Timeline) -> None:
    """Every part of the table sums to the last line, and an unpriced call is marked in each."""
    printed = lines(totals_table(finished))

    assert [" ".join(line.replace("│", " ").split()) for line in printed if line.startswith("│")] == [
        "by node",
        "intent 1 1.00 1,000 100 0.00315000",
        "answer 1 2.00 500 50 ?",
        "by model",
        "gpt-5.2 1 1.00 1,000 100 0.00315000",
        "our-model 1 2.00 500 50 ?",
        "by intent",
        "waste 1 3.00 1,500 150 ?0.00315000",
        "total 1 3.00 1,500 150 ?0.00315000",
    ]


def test_json_has_the_same_figures(finished: Timeline) -> None:
    """An unknown cost is null, not zero."""
    intent = {"seconds": 1.0, "input_tokens": 1000, "output_tokens": 100, "cost_usd": 0.00315}
    answer = {"seconds": 2.0, "input_tokens": 500, "output_tokens": 50, "cost_usd": None}
    together = {"seconds": 3.0, "input_tokens": 1500, "output_tokens": 150, "cost_usd": 0.00315}

    assert summary(finished) == {
        "requests": [
            {
                "intent": "waste",
                "nodes": [
                    {"node": "intent", "started_seconds": 0.0, **intent},
                    {"node": "answer", "started_seconds": 1.0, **answer},
                ],
                "cost_usd": 0.00315,
            }
        ],
        "totals": {
            "requests": 1,
            **together,
            "unpriced_calls": 1,
            "nodes": {"intent": intent, "answer": answer},
            "models": {"gpt-5.2": intent, "our-model": answer},
            "intents": {"waste": together},
        },
    }


@pytest.mark.parametrize("is_terminal", [True, False], ids=["terminal", "pipe"])
def test_a_conversation_is_drawn_live_only_in_a_terminal(
    finished: Timeline, monkeypatch: pytest.MonkeyPatch, is_terminal: bool
) -> None:
    """A pipe gets the view once, without escape sequences. Both outputs end with the complete answer."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    console = Console(file=io.StringIO(), width=80, force_terminal=is_terminal)
    conversation = ConversationView(QUESTION, finished, CollectedAnswer(), 0)

    with live(console, conversation):
        conversation.answer = "강남역 11번 출구\x1b[2J"

    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("\x1b[?25l" in printed) is is_terminal
    assert ("\x1b" in printed) is is_terminal
    assert "\x1b[2J" not in printed
    assert printed.rstrip("\n\x1b[?25h").endswith("강남역 11번 출구[2J")


@pytest.mark.parametrize(("columns", "redrawn"), [("79", False), ("80", True)])
def test_a_narrow_terminal_is_not_redrawn(monkeypatch: pytest.MonkeyPatch, columns: str, redrawn: bool) -> None:
    """A narrow terminal gets the view once, at the minimum width."""
    monkeypatch.setenv("COLUMNS", columns)

    assert is_live(wide_enough(Console(file=io.StringIO(), force_terminal=True))) is redrawn


@pytest.fixture
def finished() -> Timeline:
    """Return a timeline with one request of two nodes. The second node's call has no price."""
    clock = ManualClock()
    timeline, request = Timeline(now=clock.now), uuid4()
    timeline.on_start(RunStart(run_id=request, trace_id=request, kind="request", started_at=clock.now()))
    cost, usage = Cost(input_usd=Decimal("0.00315")), TokenUsage(input_tokens=1000, output_tokens=100)
    half = TokenUsage(input_tokens=500, output_tokens=50)
    where: dict[str, Any] = {"trace_id": request, "intent": "waste"}
    for node, step, model, priced in (("intent", 1, "gpt-5.2", True), ("answer", 2, "our-model", False)):
        run = uuid4()
        timeline.on_start(
            RunStart(run_id=run, trace_id=request, kind="node", name=node, step=step, started_at=clock.now())
        )
        spent: dict[str, Any] = {**where, "node": node, "started_at": clock.now(), "duration_seconds": float(step)}
        spent |= {"usage": usage, "cost": cost} if priced else {"usage": half}
        unpriced: dict[str, Any] = {} if priced else {"unpriced_reason": "unknown_model"}
        timeline.emit(LLMCall(run_id=uuid4(), model=model, **spent, **unpriced))
        timeline.emit(NodeRun(run_id=run, step=step, unpriced_calls=int(not priced), **spent))
        clock.seconds += step
    timeline.emit(
        GraphRun(
            **where,
            started_at=STARTED_AT,
            duration_seconds=3.0,
            usage=TokenUsage.sum([usage, half]),
            cost=cost,
            unpriced_calls=1,
        )
    )
    return timeline


def lines(view: Any, width: int = 80) -> list[str]:
    """Return the lines of a view without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
