"""The demo command: replays one recorded conversation per intent, and shows its cost and its timeline."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LedgerError, Settings, run_config
from eco2_callbacks.terminal import Figures, Timeline, legend
from graph.cli.answers import AnswerStream
from graph.cli.summary import summary
from graph.cli.view import ConversationView, live, totals_table, wide_enough
from graph.replay import REPLAY_SETTINGS, CassetteError, ReplayClock, clean_environment
from graph.runtime import Runtime

__all__ = ["LEDGER", "PORT", "QUERIES", "QUESTIONS", "default_speed", "run_demo"]

LEDGER = "eco2.db"
PORT = 9464  # the default port of OpenTelemetry's Prometheus exporters
QUESTIONS: Mapping[str, str] = MappingProxyType(
    {
        "waste": "페트병 어떻게 버려?",
        "bulk_waste": "강남구에서 3인용 소파 버리려면 얼마야?",
        "character": "오늘 페트병 분리수거했는데 캐릭터 뽑을래!",
        "location": "강남역 근처 페트병 분리수거함 어디있어?",
        "web_search": "2026년 일회용컵 보증금제 소식 알려줘",
        "recyclable_price": "요즘 폐지랑 고철 시세 얼마야?",
        "collection_point": "강남구에서 폐휴대폰 어디에 내면 돼?",
        "image_generation": "분리배출하는 고양이 그림 그려줘",
        "general": "미세 플라스틱이 왜 문제야?",
        "greeting": "안녕!",
    }
)
QUERIES = (
    ("dollars by node", "sum by (node) (graph_node_cost_dollars_total)"),
    ("dollars by model", "sum by (model) (llm_cost_dollars_total)"),
    ("dollars by intent", "sum by (intent) (chat_request_cost_dollars_sum)"),
    ("tokens by node", "sum by (node, token_type) (graph_node_tokens_total)"),
    (
        "seconds by node",
        "sum by (node) (graph_node_duration_seconds_sum) / sum by (node) (graph_node_duration_seconds_count)",
    ),
)
_FILTERS = (
    ("one intent", "tags:intent:waste"),
    ("one request", "metadata.job_id (chat prints it)"),
    ("branches in parallel", "tags:execution:parallel"),
)
# The demo may take half a minute. The rest is for the start and for work that is not a provider's answer.
_REPLAY_SECONDS = 18.0


def run_demo(
    runtime: Runtime,
    *,
    intents: Sequence[str] = tuple(QUESTIONS),
    provider: str = "openai",
    speed: float | None = None,
    as_numbers: bool = False,
    port: int | None = None,
    ledger: str = LEDGER,
) -> int:
    """Replay the conversations of these intents and return the exit status.

    Args:
        runtime: The graph and its dependencies.
        intents: The conversations, in this order.
        provider: The provider whose recordings to replay.
        speed: 1 is real time; None fits the demo into half a minute.
        as_numbers: Print JSON, and nothing else, to standard output.
        port: Serve the metrics on this port until Ctrl-C.
        ledger: The ledger that keeps the records: a path or a URL.
    """
    errors = Console(stderr=True)
    folder = runtime.cassettes if provider == "openai" else runtime.cassettes / provider
    paths = {intent: folder / f"{intent}.yaml" for intent in intents}
    if missing := [str(path) for path in paths.values() if not path.is_file()]:
        errors.print(f"Recording not found: {', '.join(missing)}.", markup=False, highlight=False, soft_wrap=True)
        return 1
    recorded_seconds = sum(runtime.recorded_seconds(path) for path in paths.values())
    if speed is None:
        speed = default_speed(recorded_seconds)
    console = wide_enough(Console(quiet=as_numbers))
    console.print(
        f"Replaying {len(paths)} recorded conversation{'' if len(paths) == 1 else 's'}, no keys and no network, "
        f"{_pace(speed)}. Answers and tokens come from a stand-in, dollars from the public prices, and seconds from "
        "the recording.",
        highlight=False,
    )
    registry, clock = CollectorRegistry(), ReplayClock(speed)
    timeline = Timeline(now=clock.now, answer_node="answer")
    with ExitStack() as stack:
        try:
            address = stack.enter_context(_serve(registry, port))
        except OSError as error:
            errors.print(f"Port {port} cannot be served: {error.strerror or error}.", highlight=False)
            return 1
        try:
            with (
                clean_environment(**REPLAY_SETTINGS, ECO2_PROVIDER=provider, ECO2_LEDGER=ledger),
                runtime.run_services(),
                runtime.make_handler(
                    Settings.from_env(), sinks=[timeline], registry=registry, clock=clock.seconds, now=clock.now
                ) as handler,
            ):
                asyncio.run(_play(runtime, paths, handler, timeline, console, speed))
        except (CassetteError, ConfigError, LedgerError) as error:
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            return 1
        _print_summary(console, timeline, ledger, as_numbers=as_numbers)
        if address:
            (errors if as_numbers else console).print(f"\nServing {address} until Ctrl-C.", highlight=False)
            _wait_for_interrupt()
    return 0


def default_speed(recorded_seconds: float) -> float:
    """Return the speed that fits the recordings into the available time. It is never below 1."""
    return max(1.0, round(recorded_seconds / _REPLAY_SECONDS + 0.05, 1))


def _pace(speed: float) -> str:
    return "in real time" if speed == 1 else f"{speed:g} times as fast as recorded (--speed 1 is real time)"


async def _play(
    runtime: Runtime,
    paths: Mapping[str, Path],
    handler: Eco2CallbackHandler,
    timeline: Timeline,
    console: Console,
    speed: float,
) -> None:
    runtime.check_models()  # creates the models, so the first request is not slower than the others
    async with runtime.open_graph() as graph:
        for number, (intent, path) in enumerate(paths.items()):
            config = run_config(handler, job_id=number + 1, session_id=f"demo-{intent}", tenant_id="demo")
            stream = AnswerStream()
            config["callbacks"] = [handler, stream]
            conversation = ConversationView(QUESTIONS[intent], timeline, stream, number)
            console.print()
            with live(console, conversation), runtime.replay(path, speed=speed):
                state = await graph.ainvoke(runtime.make_turn(QUESTIONS[intent]), config)
                conversation.answer = state.get("answer", "")


def _print_summary(console: Console, timeline: Timeline, ledger: str, *, as_numbers: bool) -> None:
    if as_numbers:
        json.dump(summary(timeline), sys.stdout, ensure_ascii=False, indent=2)
        print(flush=True)
        return
    console.print()
    console.print(totals_table(timeline))
    if remark := legend(Figures.sum(timeline.requests)):
        console.print(remark, style="dim")
    for line in _next_lines(timeline, ledger):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _next_lines(timeline: Timeline, ledger: str) -> Iterator[str]:
    """Yield the commands that show the same figures in Prometheus, LangSmith and the ledger."""
    yield "\nThe same in Prometheus"
    yield f"  uv run python -m graph demo --serve {PORT}"
    yield f"  scrape_configs: [{{job_name: eco2, static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]}}]"
    width = max(len(what) for what, _ in (*QUERIES, *_FILTERS))
    for what, query in QUERIES:
        yield f"  {what:{width}}  {query}"
    yield "\nThe same in LangSmith, with your own keys"
    yield "  export LANGSMITH_TRACING=true LANGSMITH_PROJECT=eco2 LANGSMITH_API_KEY=..."
    yield "  export OPENAI_API_KEY=... GOOGLE_API_KEY=..."
    yield f'  uv run python -m graph chat "{QUESTIONS["waste"]}"'
    for what, query in _FILTERS:
        yield f"  {what:{width}}  {query}"
    yield f"\nThe same in the ledger {ledger}"
    option = f"--ledger {shlex.quote(ledger)}"
    yield f"  uv run eco2 report --by intent --by model {option}"
    yield f"  uv run eco2 report --by node --format html {option}"
    if requests := timeline.requests:
        yield f"  uv run eco2 trace {requests[-1].trace_id} {option}"


@contextmanager
def _serve(registry: CollectorRegistry, port: int | None) -> Iterator[str]:
    """Serve the metrics on the loopback during the block and yield their address, ``""`` without a port."""
    if port is None:
        yield ""
        return
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry)
    try:
        yield f"http://127.0.0.1:{server.server_port}/metrics"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _wait_for_interrupt() -> None:
    """Return on Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return
