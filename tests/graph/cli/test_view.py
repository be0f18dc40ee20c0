"""The tree of a request: bars on one axis, the time that parallel branches saved, and complete figures."""

from __future__ import annotations

import asyncio
import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry
from rich.cells import cell_len
from rich.console import Console

from eco2_callbacks import Cost, Eco2CallbackHandler, GraphRun, LLMCall, NodeRun, TokenUsage
from graph.cli.figures import Figures, Row, Trace, group_by_step, saved_seconds
from graph.cli.summary import summary
from graph.cli.timeline import Timeline
from graph.cli.view import (
    ConversationView,
    is_live,
    legend,
    live,
    strip_controls,
    totals_table,
    tree,
    usd,
    wide_enough,
)
from graph.replay import ReplayClock
from tests.support import fake_runtime
from tests.support.fake_model import FakeModel

QUESTION = "강남역 근처 페트병 분리수거함 어디있어?"
STARTED_AT = datetime(2026, 11, 21, 9, tzinfo=UTC)


class ManualClock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return STARTED_AT + timedelta(seconds=self.seconds)


def figures(seconds: float, input_tokens: int = 0, output_tokens: int = 0, usd: str = "0", **more: Any) -> Figures:
    usage = TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens)
    return Figures(runs=1, seconds=seconds, usage=usage, cost=Cost(input_usd=Decimal(usd)), **more)


def row(node: str, step: int | None, started: float, spent: Figures, **more: Any) -> Row:
    return Row(node=node, step=step, started_seconds=started, figures=spent, **({"status": "success"} | more))


ROWS = (
    row("intent", 1, 0.0, figures(1.0, 1081, 10, "0.00203175")),
    row("router", 2, 1.0, figures(0.0)),
    row("location", 3, 1.0, figures(4.0, 2410, 120, "0.0058975")),
    row("web_search", 3, 1.5, figures(2.0, 10950, 340, "0.0239225")),
    row("aggregator", 4, 5.0, figures(0.0)),
    row("answer", 5, 5.0, figures(3.0, 1310, 330, "0.001645")),
)
DONE = Trace(
    intent="location",
    status="success",
    rows=ROWS,
    figures=figures(8.0, 15751, 800, "0.03349675"),
    first_token_seconds=6.25,
)


def test_the_tree_of_a_finished_request() -> None:
    """Bars stand at their times, branches below their step, and the saved time beside the step.

    Branches of 4 s and 2 s, started at 1 s and 1.5 s, cover the 4 s from 1 s to 5 s: 6 s - 4 s = 2 s saved. The axis
    of 25 characters spans 8 s, so 1 s is 3.125 characters, and bars begin and end at eighths.
    """
    assert lines(tree(DONE)) == [
        "                  0 ─────────────────── 8 s  seconds   input  output         USD",
        "location          █████████████████████████     8.00  15,751     800  0.03349675",
        "├─ intent         ███▏                          1.00   1,081      10  0.00203175",
        "├─ router            ▏                          0.00",
        "├─ 2 in parallel     saved 2.00 s",
        "│  ├─ location       ████████████▋              4.00   2,410     120  0.00589750",
        "│  ╰─ web_search      ▐█████▉                   2.00  10,950     340  0.02392250",
        "├─ aggregator                    ▏              0.00",
        "╰─ answer                        ▐█████████     3.00   1,310     330  0.00164500",
        "parallel branches saved 2.00 s; the answer began after 6.25 s",
    ]


def test_the_tree_of_a_running_request() -> None:
    """A running node has its seconds so far and no tokens. The axis has a round length."""
    running = Trace(
        intent="unclassified",
        rows=(row("intent", 1, 0.0, figures(1.25), status="running"),),
        figures=figures(1.25),
    )

    assert lines(tree(running)) == [
        "           0 ──────────────────────────────── 1.5 s  seconds  input  output  USD",
        "…          █████████████████████████████████▎            1.2",
        "╰─ intent  █████████████████████████████████▎            1.2",
    ]


def test_a_failed_node_is_marked_and_named_with_its_error() -> None:
    """The tree shows failures without colours, and names their errors."""
    failed = Trace(
        intent="location",
        status="error",
        error_type="TimeoutError",
        rows=(
            row("location", 3, 0.0, figures(2.0), status="error", error_type="TimeoutError"),
            row("web_search", 3, 0.0, figures(1.0), status="cancelled"),
        ),
        figures=figures(2.0),
    )

    assert lines(tree(failed)) == [
        "                    0 ───────────────────────── 2 s  seconds  input  output  USD",
        "location            ███████████████████████████████     2.00",
        "╰─ 2 in parallel    saved 1.00 s",
        "   ├─ ✗ location    ███████████████████████████████     2.00",
        "   ╰─ ✗ web_search  ███████████████▌                    1.00",
        "location: failed (TimeoutError)",
        "web_search: cancelled",
        "request: failed (TimeoutError)",
        "parallel branches saved 1.00 s",
    ]


@pytest.mark.parametrize(
    ("spent", "shown", "explained"),
    [
        pytest.param(figures(1), "", "", id="nothing"),
        pytest.param(figures(1, usd="0.00203175"), "0.00203175", "", id="exact"),
        pytest.param(figures(1, usd="0.000000001"), "<0.00000001", "", id="less_than_shown"),
        pytest.param(figures(1, usd="0.1", estimated=True), "~0.10000000", "~ contains an estimate", id="estimated"),
        pytest.param(
            figures(1, usd="0.1", unpriced_calls=1),
            "?0.10000000",
            "? excludes 1 call without a price",
            id="partly_unpriced",
        ),
        pytest.param(figures(1, unpriced_calls=2), "?", "? excludes 2 calls without a price", id="unpriced"),
        pytest.param(
            figures(1, usd="0.1", unpriced_calls=2, estimated=True),
            "?~0.10000000",
            "~ contains an estimate; ? excludes 2 calls without a price",
            id="both",
        ),
    ],
)
def test_uncertain_dollars_are_marked(spent: Figures, shown: str, explained: str) -> None:
    """Dollars with an estimate or with unpriced calls are marked, and the legend explains the marks."""
    assert (usd(spent), legend(spent)) == (shown, explained)


@pytest.mark.parametrize(
    ("spans", "saved"),
    [
        pytest.param([], 0.0, id="nothing"),
        pytest.param([(0, 3)], 0.0, id="alone"),
        # 3 + 2 - 3
        pytest.param([(0, 3), (0, 2)], 2.0, id="one_within_the_other"),
        # 2 + 2 - 3
        pytest.param([(0, 2), (1, 2)], 1.0, id="overlapping"),
        # 2 + 2 - 4: the gap does not count
        pytest.param([(0, 2), (5, 2)], 0.0, id="one_after_the_other"),
        # 4 + 1 + 1 - 4
        pytest.param([(0, 4), (0, 1), (2, 1)], 2.0, id="three"),
        pytest.param([(0, 0), (0, 0)], 0.0, id="no_time_at_all"),
    ],
)
def test_what_parallel_branches_saved(spans: list[tuple[float, float]], saved: float) -> None:
    """The saved time is the sum of the durations minus the time during which any of them ran."""
    assert saved_seconds([row("a", 3, start, figures(seconds)) for start, seconds in spans]) == saved


def test_rows_without_a_step_stand_alone() -> None:
    """Rows without a step are never shown as parallel."""
    a, b, c = row("a", None, 0, figures(1)), row("b", None, 0, figures(1)), row("c", 1, 1, figures(1))

    assert group_by_step([a, b, c]) == [(a,), (b,), (c,)]


@pytest.mark.parametrize("width", [80, 100, 140])
def test_no_figure_is_cut_off(width: int) -> None:
    """The longest names and the largest figures fit into every width."""
    spent = figures(59.99, 1_234_567, 123_456, "12.34567891", estimated=True, unpriced_calls=3)
    longest = Trace(
        intent="image_generation",
        status="success",
        rows=(row("image_generation", 3, 0, spent), row("recyclable_price", 3, 0, spent)),
        figures=spent,
    )

    printed = lines(tree(longest), width)

    for line in (printed[1], printed[3], printed[4]):
        assert line.endswith("59.99  1,234,567  123,456  ?~12.34567891")
    assert "…" not in "".join(printed)
    assert max(cell_len(line) for line in printed) <= width


@pytest.mark.parametrize(("width", "used"), [(40, 80), (80, 80), (100, 100), (140, 140), (300, 140)])
def test_the_width_of_the_console_is_limited(width: int, used: int) -> None:
    """The width is at least 80 and at most 140 columns."""
    assert wide_enough(Console(file=io.StringIO(), width=width)).width == used


def test_control_characters_are_removed() -> None:
    """Control characters are removed; line feeds, tabs and Korean stay."""
    assert strip_controls("\x1b[31m빨강\x07\r\n\t끝\x9b1m") == "[31m빨강\n\t끝1m"


async def test_a_timeline_shows_running_and_ended_nodes() -> None:
    """Running nodes have their seconds so far; records replace them at the end.

    location runs from 1 s to 4 s, web_search from 1 s to 3 s, and answer from 4 s to 5 s.
    """
    clock, traces, found = ManualClock(), [], asyncio.Event()

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        clock.seconds += 1
        return {"intent": "location"}

    async def location(state: fake_runtime.State) -> fake_runtime.State:
        await found.wait()
        await FakeModel().ainvoke("where")
        clock.seconds += 1
        traces.extend(timeline.traces)
        return {"place": "강남역"}

    async def web_search(state: fake_runtime.State) -> fake_runtime.State:
        clock.seconds += 2
        asyncio.get_running_loop().call_soon(found.set)
        return {"found": "소식"}

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        text = "".join([chunk.text async for chunk in FakeModel().astream("write")])
        clock.seconds += 1
        return {"answer": text}

    timeline = Timeline(now=clock.now)
    graph = fake_runtime.build(intent=intent, location=location, web_search=web_search, answer=answer)
    with measured(timeline, clock) as handler:
        await graph.ainvoke({"message": QUESTION}, {"callbacks": [handler, timeline]})

    (running,) = traces
    assert [(row.node, row.status, row.started_seconds, row.figures.seconds) for row in running.rows] == [
        ("intent", "success", 0.0, 1.0),
        ("router", "success", 1.0, 0.0),
        ("location", "running", 1.0, 3.0),
        ("web_search", "success", 1.0, 2.0),
    ]
    assert (running.status, running.intent) == ("running", "location")
    (done,) = timeline.traces
    assert [(row.node, row.status, row.started_seconds, row.figures.seconds) for row in done.rows] == [
        ("intent", "success", 0.0, 1.0),
        ("router", "success", 1.0, 0.0),
        ("location", "success", 1.0, 3.0),
        ("web_search", "success", 1.0, 2.0),
        ("answer", "success", 4.0, 1.0),
    ]
    assert (done.status, done.intent, done.figures.seconds) == ("success", "location", 5.0)
    assert (done.answer, done.first_token_seconds) == ("sort it well", 4.0)
    # Two calls of 0.00315 USD.
    assert done.figures.cost.total_usd == Decimal("0.0063")


async def test_a_failed_node_is_in_the_trace() -> None:
    """A failed request is shown up to its failure."""
    timeline = Timeline()
    with measured(timeline) as handler, pytest.raises(TimeoutError):
        await fake_runtime.build(location=fake_runtime.raise_timeout).ainvoke(
            {"message": QUESTION}, {"callbacks": [handler, timeline]}
        )

    (trace,) = timeline.traces
    assert (trace.status, trace.error_type) == ("error", "TimeoutError")
    assert {row.node: row.status for row in trace.rows} == {
        "intent": "success",
        "router": "success",
        "location": "error",
        "web_search": "cancelled",
    }


async def test_the_answer_is_passed_on_while_it_streams() -> None:
    """``on_text`` receives the pieces of the answer node's stream and of no other model."""
    pieces: list[str] = []
    timeline = Timeline(on_text=pieces.append)
    with measured(timeline) as handler:
        await fake_runtime.build().ainvoke({"message": QUESTION}, {"callbacks": [handler, timeline]})

    assert pieces == ["강남역 ", "11번 출구 앞에 ", "페트병 수거함이 있습니다."]


def test_a_fast_replay_shows_recorded_durations() -> None:
    """At speed 8, half a second counts as four seconds, in durations and in time stamps."""
    time = ManualClock()
    clock = ReplayClock(8, monotonic=lambda: time.seconds, now=lambda: STARTED_AT)
    before = clock.seconds()

    time.seconds += 0.5

    assert clock.seconds() - before == 4.0
    assert clock.now() == STARTED_AT + timedelta(seconds=4)


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
    conversation = ConversationView(QUESTION, finished, 0)

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
    timeline.on_chain_start(None, {}, run_id=request)
    cost, usage = Cost(input_usd=Decimal("0.00315")), TokenUsage(input_tokens=1000, output_tokens=100)
    half = TokenUsage(input_tokens=500, output_tokens=50)
    where: dict[str, Any] = {"trace_id": request, "intent": "waste"}
    for node, step, model, priced in (("intent", 1, "gpt-5.2", True), ("answer", 2, "our-model", False)):
        run = uuid4()
        timeline.on_chain_start(
            None,
            {},
            run_id=run,
            parent_run_id=request,
            name=node,
            tags=[f"graph:step:{step}"],
            metadata={"langgraph_node": node},
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


def measured(timeline: Timeline, clock: ManualClock | None = None) -> Eco2CallbackHandler:
    clocks: dict[str, Any] = {} if clock is None else {"clock": lambda: clock.seconds, "now": clock.now}
    return Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[timeline], **clocks)


def lines(view: Any, width: int = 80) -> list[str]:
    """Return the lines of a view without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
