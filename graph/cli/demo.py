"""The demo command: replays recorded conversations, and shows their cost and their timeline."""

from __future__ import annotations

import json
import shlex
import sys
import threading
from asyncio import Runner
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage
from prometheus_client import CollectorRegistry, start_http_server
from rich.console import Console

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LedgerError, Settings, run_config
from eco2_callbacks.terminal import Figures, Timeline, legend
from graph.cli.answers import CollectedAnswer
from graph.cli.conversations import CONVERSATIONS, SUMMARIZE_TOKENS, Conversation, cassette_folder
from graph.cli.defaults import LEDGER, PORT, QUERIES
from graph.cli.images import image_url
from graph.cli.summary import summary
from graph.cli.view import ConversationView, live, totals_table, wide_enough
from graph.replay import REPLAY_SETTINGS, CassetteError, ReplayClock, ReplayLoop, clean_environment
from graph.runtime import Runtime

__all__ = ["default_speed", "first_state", "run_demo"]

_FILTERS = (
    ("one intent", "tags:intent:waste"),
    ("one request", "metadata.job_id (chat prints it)"),
    ("branches in parallel", "tags:execution:parallel"),
)
# The demo may take half a minute. The rest is for the start and for work that is not a provider's answer.
_REPLAY_SECONDS = 15.0


def run_demo(
    runtime: Runtime,
    *,
    names: Sequence[str] | None = None,
    language: str = "ko",
    provider: str = "openai",
    speed: float | None = None,
    as_numbers: bool = False,
    port: int | None = None,
    ledger: str = LEDGER,
) -> int:
    """Replay conversations and return the exit status.

    Args:
        runtime: The graph and its dependencies.
        names: The conversations, in this order; None replays all.
        language: Their language: ``ko`` or ``en``.
        provider: The provider whose recordings to replay.
        speed: 1 is real time; None fits the demo into half a minute.
        as_numbers: Print JSON, and nothing else, to standard output.
        port: Serve the metrics on this port until Ctrl-C.
        ledger: The ledger that keeps the records: a path or a URL.
    """
    errors = Console(stderr=True)
    chosen = {name: CONVERSATIONS[language][name] for name in names or CONVERSATIONS[language]}
    folder = cassette_folder(runtime.cassettes, provider=provider, language=language)
    paths = {name: folder / f"{name}.yaml" for name in chosen}
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
    timeline = Timeline(now=clock.now_between, answer_node="answer")
    with ExitStack() as stack:
        try:
            address = stack.enter_context(_serve(registry, port))
        except OSError as error:
            errors.print(f"Port {port} cannot be served: {error.strerror or error}.", highlight=False)
            return 1
        settings = {"ECO2_PROVIDER": provider, "ECO2_LEDGER": ledger, "ECO2_SUMMARIZE_TOKENS": str(SUMMARIZE_TOKENS)}
        try:
            with (
                clean_environment(**REPLAY_SETTINGS, **settings),
                runtime.run_services(),
                runtime.make_handler(
                    Settings.from_env(), sinks=[timeline], registry=registry, clock=clock.seconds, now=clock.now
                ) as handler,
                Runner(loop_factory=lambda: ReplayLoop(clock)) as runner,
            ):
                runner.run(_play(runtime, chosen, paths, handler, timeline, console, clock))
        except (CassetteError, ConfigError, LedgerError) as error:
            errors.print(str(error), markup=False, highlight=False, soft_wrap=True)
            return 1
        _print_summary(console, timeline, ledger, chosen, as_numbers=as_numbers)
        if address:
            (errors if as_numbers else console).print(f"\nServing {address} until Ctrl-C.", highlight=False)
            _wait_for_interrupt()
    return 0


def default_speed(recorded_seconds: float) -> float:
    """Return the speed that fits the recordings into the available time. It is never below 1."""
    return max(1.0, round(recorded_seconds / _REPLAY_SECONDS + 0.05, 1))


def first_state(runtime: Runtime, conversation: Conversation) -> dict[str, Any]:
    """Return the state with which the conversation's question starts."""
    picture = conversation.picture
    state: dict[str, Any] = runtime.make_turn(conversation.message, image=image_url(picture) if picture else "")
    if conversation.earlier:
        pairs = ((HumanMessage(question), AIMessage(answer)) for question, answer in conversation.earlier)
        state = {**state, "messages": [message for pair in pairs for message in pair]}
    return state


def _pace(speed: float) -> str:
    return "in real time" if speed == 1 else f"{speed:g} times as fast as recorded (--speed 1 is real time)"


async def _play(
    runtime: Runtime,
    conversations: Mapping[str, Conversation],
    paths: Mapping[str, Path],
    handler: Eco2CallbackHandler,
    timeline: Timeline,
    console: Console,
    clock: ReplayClock,
) -> None:
    runtime.check_models()  # creates the models, so the first request is not slower than the others
    async with runtime.open_graph() as graph:
        for number, (name, conversation) in enumerate(conversations.items()):
            config = run_config(handler, job_id=number + 1, session_id=f"demo-{name}", tenant_id="demo")
            stream = CollectedAnswer()
            config["callbacks"] = [handler, stream]
            view = ConversationView(conversation.message, timeline, stream, number)
            console.print()
            with live(console, view), runtime.replay(paths[name], clock=clock):
                state = await graph.ainvoke(first_state(runtime, conversation), config)
                view.answer = state.get("answer", "")


def _print_summary(
    console: Console, timeline: Timeline, ledger: str, chosen: Mapping[str, Conversation], *, as_numbers: bool
) -> None:
    if as_numbers:
        json.dump(summary(timeline), sys.stdout, ensure_ascii=False, indent=2)
        print(flush=True)
        return
    console.print()
    console.print(totals_table(timeline))
    if remark := legend(Figures.sum(timeline.requests)):
        console.print(remark, style="dim")
    question = next(iter(chosen.values())).message
    for line in _next_lines(timeline, ledger, question):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _next_lines(timeline: Timeline, ledger: str, question: str) -> Iterator[str]:
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
    yield f'  uv run python -m graph chat "{question}"'
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
