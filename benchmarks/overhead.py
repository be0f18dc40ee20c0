"""Measures what the handler adds to a LangChain program, as multiples of a handler that does nothing.

    uv run python benchmarks/overhead.py                        # everything, about two minutes
    uv run python benchmarks/overhead.py --rows call "traced call" --blocks 60
    uv run python benchmarks/overhead.py --peers                # other handlers too; add more with uv run --with
    uv run python benchmarks/overhead.py --growth               # how a call's cost grows with open runs and streams
    uv run python benchmarks/overhead.py --instructions call    # counts instructions under valgrind, minutes a row

Times are CPU time of one operation: the lower quartile of blocks in which the handlers take turns, less the same
without a handler. "caller" is the calling thread; "total" holds the deferred work of all threads, settled after each
block. Absolute times differ between machines; multiples hardly do. Figures of a fresh process are medians.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Mapping

from blocks import Cost, measure
from handlers import PEERS, Subject, eco2, eco2_with_queued_sink, floor, nothing, traced
from instructions import SUBJECTS, count
from single_events import flush_slice, growth, memory, new_label_values, scrape
from startup import startup
from workloads import WORKLOADS

_NAME = 38
_OURS = {"eco2_callbacks": eco2, "eco2_callbacks, queued sink": eco2_with_queued_sink}
_TRACED = "traced call"
_TRACED_GOAL = 2.5


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rows = [*WORKLOADS, _TRACED]
    parser.add_argument("--rows", nargs="+", choices=rows, default=rows, help="operations to measure (default: all)")
    parser.add_argument("--blocks", type=int, default=40, help="blocks for each handler (default: 40)")
    parser.add_argument("--peers", action="store_true", help="measure other handlers that are installed")
    parser.add_argument("--growth", action="store_true", help="measure only how the cost of a call grows")
    parser.add_argument("--instructions", nargs="+", choices=list(WORKLOADS), help="count instructions of these only")
    arguments = parser.parse_args()
    if arguments.instructions:
        _print_instructions(arguments.instructions)
    elif arguments.growth:
        _print_growth()
    else:
        _print_operations(arguments.rows, arguments.blocks, with_peers=arguments.peers)
        if arguments.rows == rows:
            _print_single_events()


def _print_operations(rows: list[str], blocks: int, *, with_peers: bool) -> None:
    print(f"{'one operation, added':{_NAME}}{'caller us':>10}{'(floors)':>9}{'total us':>10}{'(floors)':>9}   goal")
    for row in rows:
        if row == _TRACED:
            _print_traced(blocks)
            continue
        makers = {"none": nothing, "floor": floor, **_OURS, **(PEERS if with_peers else {})}
        costs = asyncio.run(measure(WORKLOADS[row], {name: make() for name, make in makers.items()}, blocks))
        floor_cost = costs["floor"].above(costs["none"])
        goal = f"{WORKLOADS[row].goal_caller} / {WORKLOADS[row].goal_total}"
        for name in list(makers)[1:]:
            _print_row(f"{row}: {name}", costs[name].above(costs["none"]), floor_cost, goal if name in _OURS else "")


def _print_traced(blocks: int) -> None:
    """Print what a call costs on top of LangSmith's tracer, in floors of an untraced call."""
    subjects: dict[str, Subject] = {
        "none": nothing(),
        "floor": floor(),
        "tracer": traced(),
        "tracer and eco2_callbacks": traced(eco2()),
    }
    costs = asyncio.run(measure(WORKLOADS["call"], subjects, blocks))
    added = costs["tracer and eco2_callbacks"].above(costs["tracer"])
    _print_row("traced call: on top of the tracer", added, costs["floor"].above(costs["none"]), f"{_TRACED_GOAL}")


def _print_row(name: str, added: Cost, floor_cost: Cost, goal: str) -> None:
    figures = f"{added.caller:10.1f}{added.caller / floor_cost.caller:9.2f}"
    figures += f"{added.total:10.1f}{added.total / floor_cost.caller:9.2f}"
    print(f"{name:{_NAME}}{figures}   {goal}")


def _print_single_events() -> None:
    print(f"\n{'one event':{_NAME}}{'measured':>18}")
    events: Mapping[str, str] = {**startup(), **new_label_values(), **flush_slice(), **scrape(), **memory()}
    for name, measured in events.items():
        print(f"{name:{_NAME}}{measured:>18}")


def _print_growth() -> None:
    print(f"{'while open':{_NAME}}{'a call more, us':>18}")
    for name, microseconds in growth().items():
        print(f"{name:{_NAME}}{microseconds:18.1f}")


def _print_instructions(rows: list[str]) -> None:
    print(f"{'thousand instructions of one operation':{_NAME}}{'added':>12}{'(floors)':>9}")
    for row in rows:
        counts = {subject: count(row, subject) for subject in SUBJECTS}
        floor_count = counts["floor"] - counts["none"]
        for subject in SUBJECTS:
            base = "tracer" if subject == "tracer and eco2_callbacks" else "none"
            added = counts[subject] - counts[base]
            print(f"{row + ': ' + subject:{_NAME}}{added / 1000:12.1f}{added / floor_count:9.2f}")


if __name__ == "__main__":
    main()
