"""The demo: one recorded conversation per intent, replayed, measured and drawn."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType

from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console

from eco2_callbacks import Eco2CallbackHandler, Settings, run_config
from graph.cassette import DUMMY_KEY, KEYS, CassetteError
from graph.stage import Clock, Stage, environment
from graph.timeline import Figures, Timeline, as_json
from graph.view import Conversation, legend, live, totals_table, wide_enough

__all__ = ["PORT", "QUERIES", "QUESTIONS", "demo", "fitting_speed"]

PORT = 9464  # the one that OpenTelemetry's exporters for Prometheus use
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
# Of the half minute that all may take; the rest is for the start and for what is not a provider's answer.
_PLAYING_SECONDS = 18.0


def demo(
    stage: Stage,
    *,
    intents: Sequence[str] = tuple(QUESTIONS),
    provider: str = "openai",
    speed: float | None = None,
    as_numbers: bool = False,
    port: int | None = None,
) -> int:
    """Play the conversations of these intents, and return the exit status.

    Args:
        stage: What it is played on.
        intents: Which conversations, in this order.
        provider: Whose recordings.
        speed: How many times as fast as recorded; None is what fits half a minute.
        as_numbers: Print JSON, and nothing else on standard output.
        port: Serve the metrics there, until interrupted.
    """
    errors = Console(stderr=True)
    folder = stage.cassettes if provider == "openai" else stage.cassettes / provider
    paths = {intent: folder / f"{intent}.yaml" for intent in intents}
    if missing := [str(path) for path in paths.values() if not path.is_file()]:
        errors.print(f"There is no recording {', '.join(missing)}.", markup=False, highlight=False, soft_wrap=True)
        return 1
    recorded_seconds = sum(stage.recorded_seconds(path) for path in paths.values())
    if speed is None:
        speed = fitting_speed(recorded_seconds)
    console = wide_enough(Console(quiet=as_numbers))
    console.print(
        f"Replaying {len(paths)} recorded conversation{'' if len(paths) == 1 else 's'}, no keys and no network, "
        f"{_pace(speed)}. Answers and tokens are a stand-in's, dollars those of the public rates, seconds the "
        "recorded ones.",
        highlight=False,
    )
    registry, clock = CollectorRegistry(), Clock(speed)
    timeline = Timeline(now=clock.now)
    with ExitStack() as stack:
        try:
            address = stack.enter_context(_served(registry, port))
        except OSError as error:
            errors.print(f"Port {port} cannot be served: {error.strerror or error}.", highlight=False)
            return 1
        try:
            with (
                environment(**dict.fromkeys(KEYS, DUMMY_KEY), ECO2_PROVIDER=provider),
                stage.services(),
                stage.make_handler(
                    Settings.from_env(), sinks=[timeline], registry=registry, clock=clock.seconds, now=clock.now
                ) as handler,
            ):
                asyncio.run(_play(stage, paths, handler, timeline, console, speed))
        except CassetteError as error:
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            return 1
        _finish(console, timeline, as_numbers=as_numbers)
        if address:
            (errors if as_numbers else console).print(f"\nServing {address} until Ctrl-C.", highlight=False)
            _wait()
    return 0


def fitting_speed(recorded_seconds: float) -> float:
    """Return how many times as fast as recorded it has to go to fit the time there is; never slower than real time."""
    return max(1.0, round(recorded_seconds / _PLAYING_SECONDS + 0.05, 1))


def _pace(speed: float) -> str:
    return "in real time" if speed == 1 else f"{speed:g} times as fast as recorded (--speed 1 is real time)"


async def _play(
    stage: Stage,
    paths: Mapping[str, Path],
    handler: Eco2CallbackHandler,
    timeline: Timeline,
    console: Console,
    speed: float,
) -> None:
    stage.check()  # makes the models, which would else be a part of the first request
    async with stage.graph() as graph:
        for number, (intent, path) in enumerate(paths.items()):
            config = run_config(handler, job_id=number + 1, session_id=f"demo-{intent}", tenant_id="demo")
            config["callbacks"] = [handler, timeline]
            conversation = Conversation(QUESTIONS[intent], timeline, number)
            console.print()
            with live(console, conversation), stage.replay(path, speed=speed):
                state = await graph.ainvoke(stage.turn(QUESTIONS[intent]), config)
                conversation.answer = state.get("answer", "")


def _finish(console: Console, timeline: Timeline, *, as_numbers: bool) -> None:
    if as_numbers:
        json.dump(as_json(timeline), sys.stdout, ensure_ascii=False, indent=2)
        print(flush=True)
        return
    console.print()
    console.print(totals_table(timeline))
    if remark := legend(Figures.sum(timeline.requests)):
        console.print(remark, style="dim")
    for line in _next_lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _next_lines() -> Iterator[str]:
    """Yield what to type to see the same elsewhere."""
    yield "\nThe same in Prometheus"
    yield f"  uv run python -m graph demo --serve {PORT}"
    yield f"  scrape_configs: [{{job_name: eco2, static_configs: [{{targets: ['127.0.0.1:{PORT}']}}]}}]"
    width = max(len(what) for what, _ in (*QUERIES, *_FILTERS))
    for what, query in QUERIES:
        yield f"  {what:{width}}  {query}"
    yield "\nThe same in LangSmith, with keys of your own"
    yield "  export LANGSMITH_TRACING=true LANGSMITH_PROJECT=eco2 LANGSMITH_API_KEY=..."
    yield "  export OPENAI_API_KEY=... GOOGLE_API_KEY=..."
    yield f'  uv run python -m graph chat "{QUESTIONS["waste"]}"'
    for what, query in _FILTERS:
        yield f"  {what:{width}}  {query}"


@contextmanager
def _served(registry: CollectorRegistry, port: int | None) -> Iterator[str]:
    """Serve the metrics on the loopback while the block runs, and yield their address, ``""`` without a port."""
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


def _wait() -> None:
    """Return on Ctrl-C."""
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        return
