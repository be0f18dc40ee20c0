"""The tree of a request: bars on one axis, the time that parallel branches saved, and complete figures."""

from __future__ import annotations

import io
from decimal import Decimal
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from eco2_callbacks import Cost, TokenUsage
from eco2_callbacks.terminal import Figures, RequestTree, Row, Trace, group_by_step, legend, saved_seconds, usd


def figures(
    seconds: float, input_tokens: int = 0, output_tokens: int = 0, usd: str = "0", *, cached: int = 0, **more: Any
) -> Figures:
    usage = TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens, cache_read_tokens=cached)
    return Figures(runs=1, seconds=seconds, usage=usage, cost=Cost(input_usd=Decimal(usd)), **more)


def row(name: str, step: int | None, started: float, spent: Figures, **more: Any) -> Row:
    return Row(name=name, step=step, started_seconds=started, figures=spent, **({"status": "success"} | more))


ROWS = (
    row("intent", 1, 0.0, figures(1.0, 1081, 10, "0.00203175")),
    row("router", 2, 1.0, figures(0.0)),
    row("location", 3, 1.0, figures(4.0, 2410, 120, "0.0058975")),
    row("web_search", 3, 1.5, figures(2.0, 10950, 340, "0.0239225", cached=9216)),
    row("aggregator", 4, 5.0, figures(0.0)),
    row("answer", 5, 5.0, figures(3.0, 1310, 330, "0.001645")),
)
DONE = Trace(
    intent="location",
    status="success",
    rows=ROWS,
    figures=figures(8.0, 15751, 800, "0.03349675", cached=9216),
    first_token_seconds=6.25,
)


def test_the_tree_of_a_finished_request() -> None:
    """Bars stand at their times, branches below their step, and the saved time beside the step.

    Branches of 4 s and 2 s, started at 1 s and 1.5 s, cover the 4 s from 1 s to 5 s: 6 s - 4 s = 2 s saved. The axis
    of 25 characters spans 8 s, so 1 s is 3.125 characters, and bars begin and end at eighths.
    """
    assert lines(RequestTree(DONE)) == [
        "                  0 ─────────────────── 8 s  seconds   input  cached  output         USD",
        "location          █████████████████████████     8.00  15,751   9,216     800  0.03349675",
        "├─ intent         ███▏                          1.00   1,081              10  0.00203175",
        "├─ router            ▏                          0.00",
        "├─ 2 in parallel     saved 2.00 s",
        "│  ├─ location       ████████████▋              4.00   2,410             120  0.00589750",
        "│  ╰─ web_search      ▐█████▉                   2.00  10,950   9,216     340  0.02392250",
        "├─ aggregator                    ▏              0.00",
        "╰─ answer                        ▐█████████     3.00   1,310             330  0.00164500",
        "parallel branches saved 2.00 s; the answer began after 6.25 s",
    ]


def test_the_tree_at_60_columns() -> None:
    """Fewer columns show shorter figures: thousands, a tenth of a second, and hundredths of a cent."""
    assert lines(RequestTree(DONE), 60)[:9] == [
        "                 0 ───────── 8 s   s    in cached out    USD",
        "location         ███████████████ 8.0 15.8k   9.2k 800 0.0335",
        "├─ intent        █▉              1.0  1.1k         10 0.0020",
        "├─ router         ▏              0.0",
        "├─ 2 in parallel  saved 2.00 s",
        "│  ├─ location    ▕███████▍      4.0  2.4k        120 0.0059",
        "│  ╰─ web_search   ▕███▌         2.0 10.9k   9.2k 340 0.0239",
        "├─ aggregator             ▏      0.0",
        "╰─ answer                 ▐█████ 3.0  1.3k        330 0.0016",
    ]


def test_a_tree_that_is_longer_than_the_screen_shows_its_end() -> None:
    """What runs now stands at the end, so the earliest lines are left out."""
    assert [line[:12].rstrip() for line in lines(RequestTree(DONE, max_lines=2))] == [
        "",
        "location",
        "├─ aggregato",
        "╰─ answer",
        "… 5 earlier",
        "parallel bra",
    ]


def test_names_cannot_control_the_terminal() -> None:
    """A model names tools and agents, and a terminal would execute control characters in them."""
    trace = Trace(name="a\x1b[2Jb", figures=figures(1), rows=(row("c\x07\nd", 1, 0, figures(1)),))

    printed = "\n".join(lines(RequestTree(trace)))

    assert "a[2Jb" in printed
    assert "cd" in printed
    assert not {"\x1b", "\x07"} & set(printed)


def test_the_tree_of_a_running_request() -> None:
    """A running node has its seconds so far and no tokens. The axis has a round length."""
    running = Trace(
        name="…",
        rows=(row("intent", 1, 0.0, figures(1.25), status="running"),),
        figures=figures(1.25),
    )

    assert lines(RequestTree(running)) == [
        "           0 ──────────────────────────────── 1.5 s  seconds  input  cached  output  USD",
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

    assert lines(RequestTree(failed)) == [
        "                    0 ───────────────────────── 2 s  seconds  input  cached  output  USD",
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


def test_rows_of_one_step_that_ran_one_after_the_other_stand_alone() -> None:
    """A graph that a node calls twice counts its steps anew: its rows stand in the order of their starts."""
    first, second = row("a", 1, 0, figures(1)), row("b", 2, 1, figures(1))
    again, beside = row("a", 1, 2, figures(2)), row("c", 1, 3, figures(1))

    assert group_by_step([first, second, again, beside]) == [(first,), (second,), (again, beside)]


@pytest.mark.parametrize(
    ("width", "end"),
    [
        (60, "60.0 1.2M   1.0M 123k ?~12.3457"),
        (80, "60.0 1.2M   1.0M 123k ?~12.3457"),
        (100, "59.99  1,234,567  1,024,000  123,456  ?~12.34567891"),
        (140, "59.99  1,234,567  1,024,000  123,456  ?~12.34567891"),
    ],
)
def test_no_figure_is_cut_off(width: int, end: str) -> None:
    """The longest names and the largest figures fit into every width."""
    spent = figures(59.99, 1_234_567, 123_456, "12.34567891", cached=1_024_000, estimated=True, unpriced_calls=3)
    longest = Trace(
        intent="image_generation",
        status="success",
        rows=(row("image_generation", 3, 0, spent), row("recyclable_price", 3, 0, spent)),
        figures=spent,
    )

    printed = lines(RequestTree(longest), width)

    for line in (printed[1], printed[3], printed[4]):
        assert line.endswith(end)
    assert ("…" in "".join(printed)) is (width == 60)  # only names are shortened
    assert max(cell_len(line) for line in printed) <= width


def lines(view: Any, width: int = 88) -> list[str]:
    """Return the lines of a view without trailing blanks."""
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.print(view)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
