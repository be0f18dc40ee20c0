"""The command line, ``python -m graph``: ``demo`` plays a recorded conversation and shows what it cost."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import vcr
from prometheus_client import CollectorRegistry, generate_latest
from rich.console import Console
from rich.table import Table
from vcr.errors import CannotOverwriteExistingCassetteException

from eco2_callbacks import Cost, Eco2CallbackHandler, GraphRun, NodeRun, Record, TokenUsage, run_config
from graph import build_graph
from graph.state import State

__all__ = ["CASSETTE", "QUESTIONS", "environment", "main", "replay"]

CASSETTE = Path(__file__).parent.parent / "cassettes" / "demo" / "waste.yaml"
QUESTIONS = ("페트병 어떻게 버려?", "안녕!", "다 쓴 건전지는 어디에 버려?")
_METRICS = ("llm_tokens_total", "llm_cost_dollars_total", "graph_node_cost_dollars_total", "chat_requests_total")
_WIDTH = 80  # a narrower table would cut its figures off
_MATCH_ON = ("method", "scheme", "host", "port", "path", "query", "body")
# Settings of the provider SDKs and of tracing: they would change the requests or send some of their own.
_SETTINGS = ("GEMINI_", "GOOGLE_", "LANGCHAIN_", "LANGSMITH_", "OPENAI_", "OTEL_")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m graph", description="The Eco2 chat worker.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("demo", help="play a recorded conversation: no keys, no network")
    parser.parse_args(argv)
    console = Console()
    console.width = max(console.width, _WIDTH)
    try:
        with replay():
            asyncio.run(_demo(console))
    except Exception as error:
        if not _refused(error):
            raise
        console.print("The recording does not hold this request; was a prompt or a model changed?", style="bold red")
        console.print("Record it anew: python tests/graph/record_demo.py")
        return 1
    return 0


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Put these variables in the place of all settings of providers and tracing, until the block ends."""
    before = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS) or name in variables}
    for name in before:
        del os.environ[name]
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def replay() -> Iterator[None]:
    """Answer the models' requests from the recording and refuse every other, until the block ends."""
    with (
        environment(OPENAI_API_KEY="replayed", GOOGLE_API_KEY="replayed"),
        vcr.use_cassette(CASSETTE, record_mode="none", match_on=_MATCH_ON),
    ):
        yield


class _Runs:
    """A sink that keeps the runs of nodes, and the requests."""

    def __init__(self) -> None:
        self.nodes: list[NodeRun] = []
        self.requests: list[GraphRun] = []

    def emit(self, record: Record) -> None:
        if isinstance(record, NodeRun):
            self.nodes.append(record)
        elif isinstance(record, GraphRun):
            self.requests.append(record)


async def _demo(console: Console) -> None:
    console.print(
        f"Replaying cassettes/demo/{CASSETTE.name}: answers and tokens are a stand-in's, dollars those of the public "
        "rates, seconds those of this replay. Cached tokens lie inside input, reasoning inside output."
    )
    registry, runs = CollectorRegistry(), _Runs()
    with Eco2CallbackHandler(agent_name="eco2", registry=registry, sinks=[runs]) as handler:
        graph = build_graph()
        for number, question in enumerate(QUESTIONS, start=1):
            config = run_config(handler, job_id=number, session_id="demo", tenant_id="demo")
            state = await graph.ainvoke(State(message=question), config)
            request = runs.requests[-1]
            nodes = [node for node in runs.nodes if node.trace_id == request.trace_id]
            console.print(f"\n> {question}", style="bold", markup=False)
            console.print(state["answer"], markup=False)
            console.print(_table(f"Request {number}: {request.intent}", nodes, [request]))
    console.print()
    console.print(_table("All requests", runs.nodes, runs.requests))
    console.print("\nMetrics", style="bold")
    for line in generate_latest(registry).decode().splitlines():
        if line.startswith(tuple(f"{name}{{" for name in _METRICS)) and float(line.rpartition(" ")[2]):
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(title: str, nodes: Sequence[NodeRun], requests: Sequence[GraphRun]) -> Table:
    table = Table("node", title=title, title_justify="left", show_footer=True)
    columns = ("input", "cached", "output", "reasoning", "seconds", "USD")
    table.columns[0].footer = "total"
    for column, total in zip(columns, _figures(requests), strict=True):
        table.add_column(column, footer=total, justify="right", no_wrap=True)
    for name in dict.fromkeys(node.node for node in nodes):
        table.add_row(name, *_figures([node for node in nodes if node.node == name]))
    return table


def _figures(runs: Sequence[NodeRun] | Sequence[GraphRun]) -> tuple[str, ...]:
    usage = TokenUsage.sum(run.usage for run in runs)
    unpriced = sum(run.unpriced_calls for run in runs)
    usd = f"{Cost.sum(run.cost for run in runs).total_usd:.8f}"
    return (
        f"{usage.input_tokens:,}",
        f"{usage.cache_read_tokens:,}",
        f"{usage.output_tokens:,}",
        f"{usage.reasoning_tokens:,}",
        f"{sum(run.duration_seconds for run in runs):.2f}",
        f"{usd} + {unpriced} unpriced" if unpriced else usd,
    )


def _refused(error: BaseException | None) -> bool:
    """Say whether the recording's refusal lies below an error of the SDKs."""
    while error is not None and not isinstance(error, CannotOverwriteExistingCassetteException):
        error = error.__cause__ or error.__context__
    return error is not None


if __name__ == "__main__":
    sys.exit(main())
