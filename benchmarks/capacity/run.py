"""Measures what one machine carries: concurrent streams, tokens a second, and whose CPU it takes.

    uv run python benchmarks/capacity/run.py                         # 1 to 500 users, then 1, 2 and 4 workers
    uv run python benchmarks/capacity/run.py --users 1 50 --workers 1 --seconds 10

The API, the workers, RabbitMQ and Redis are real processes; the provider is a stand-in with a real model's delays
(``provider.py``). A user asks, reads the stream to its end and asks again: as many streams are open as there are users.
Everything shares this machine, the stand-in and the users too: absolute figures are a lower bound, and only
ratios can be compared with another run. CPU is per answer, so that it holds on a machine of another size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import psutil

_HERE = Path(__file__).resolve().parent
_ROOT = _HERE.parents[1]
sys.path.insert(0, str(_ROOT))

from tests.support.programs import free_port  # noqa: E402
from tests.support.rabbit_process import rabbit_process  # noqa: E402
from tests.support.redis_process import redis_process  # noqa: E402

FIRST_SECONDS, TOKEN_SECONDS, TOKENS = 0.45, 0.011, 100  # of the default models, as their recordings show
_QUESTION = "미세 플라스틱이 왜 문제야?"
_START_SECONDS = 120.0
_IDEAL_SECONDS = 3 * FIRST_SECONDS + (20 + 2 * TOKENS) * TOKEN_SECONDS  # intent, general, answer


@dataclass
class Measured:
    """One step: what its users saw."""

    answer_seconds: list[float] = field(default_factory=list)
    first_token_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)


@dataclass
class Machine:
    """The processes of one set-up, by role."""

    url: str
    folder: Path
    processes: dict[str, list[psutil.Process]]

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU of each role so far, children included."""
        return {role: sum(map(_cpu_seconds, processes)) for role, processes in self.processes.items()}

    def handler(self) -> dict[str, float]:
        """Return the figures that the workers say of themselves, summed."""
        total: dict[str, float] = {}
        for path in self.folder.glob("worker-*.json"):
            for name, value in json.loads(path.read_text()).items():
                total[name] = total.get(name, 0.0) + value
        return total


def _cpu_seconds(process: psutil.Process) -> float:
    seconds = 0.0
    for each in (process, *process.children(recursive=True)):
        times = each.cpu_times()
        seconds += times.user + times.system
    return seconds


@contextmanager
def machine(folder: Path, *, workers: int, users: int) -> Iterator[Machine]:
    """Run one set-up during the block."""
    with ExitStack() as stack:
        redis = stack.enter_context(redis_process(folder / "redis"))
        rabbit = stack.enter_context(rabbit_process(folder / "rabbit"))
        provider_port, port = free_port(), free_port()
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": str(_ROOT),
            "PYTHONUTF8": "1",
            "ECO2_REDIS_URL": redis.url,
            "ECO2_AMQP_URL": rabbit.url,
            "ECO2_WORKER_CONCURRENCY": str(min(1000, max(1, -(-users // workers)))),
            "ECO2_TENANT_REQUESTS_PER_MINUTE": "1000000",
            "ECO2_TENANT_MAX_JOBS": "100000",
            "ECO2_TENANT_MAX_STREAMS": "100000",
            "OPENAI_API_KEY": "stand-in",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{provider_port}/v1",
        }

        def start(name: str, *command: str) -> tuple[psutil.Process, str]:
            log = stack.enter_context((folder / f"{name}.log").open("w"))
            ops = free_port()
            options = ["--metrics-port", str(ops)] if name != "provider" else []
            process = subprocess.Popen(
                [sys.executable, *command, *options], env=environment, cwd=_ROOT, stdout=log, stderr=log
            )
            stack.callback(process.wait)
            stack.callback(process.terminate)
            return psutil.Process(process.pid), f"http://127.0.0.1:{ops}/readyz"

        delays = [str(value) for value in (FIRST_SECONDS, TOKEN_SECONDS, TOKENS)]
        provider, _ = start("provider", str(_HERE / "provider.py"), str(provider_port), *delays)
        api, api_ready = start("api", "-m", "graph", "api", "--port", str(port))
        started = [
            start(f"worker-{number}", str(_HERE / "worker.py"), str(folder / f"worker-{number}.json"), "worker")
            for number in range(workers)
        ]
        asyncio.run(_until_ready([api_ready, *(ready for _, ready in started)]))
        processes = {
            "worker": [process for process, _ in started],
            "api": [api],
            "redis": [psutil.Process(redis.pid)],
            "rabbitmq": [psutil.Process(rabbit.pid)],
            "stand-in": [provider],
            "users": [psutil.Process()],
        }
        yield Machine(f"http://127.0.0.1:{port}", folder, processes)


async def _until_ready(urls: Sequence[str]) -> None:
    async with aiohttp.ClientSession() as session:
        for url in urls:
            give_up_at = time.monotonic() + _START_SECONDS
            while True:
                try:
                    async with session.get(url) as answer:
                        if answer.status == 200:
                            break
                except aiohttp.ClientError:
                    pass
                if time.monotonic() > give_up_at:
                    raise SystemExit(f"{url} did not become ready in {_START_SECONDS:g} s.")
                await asyncio.sleep(0.1)


async def load(url: str, *, users: int, seconds: float) -> Measured:
    """Let so many users ask for so long; answers that began in that time are read to their end."""
    measured = Measured()
    until = time.monotonic() + seconds
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(url, connector=connector, timeout=aiohttp.ClientTimeout(total=600)) as session:

        async def user() -> None:
            while time.monotonic() < until:
                try:
                    await _ask(session, measured)
                except aiohttp.ClientResponseError as error:
                    measured.failures[f"{error.status} {error.message}"] += 1
                    await asyncio.sleep(1)
                except (aiohttp.ClientError, TimeoutError, RuntimeError) as error:
                    measured.failures[f"{type(error).__name__}: {error}"] += 1
                    await asyncio.sleep(1)

        await asyncio.gather(*(user() for _ in range(users)))
    return measured


async def _ask(session: aiohttp.ClientSession, measured: Measured) -> None:
    began = time.perf_counter()
    async with session.post("/api/v1/chat", json={"message": _QUESTION}) as accepted:
        accepted.raise_for_status()
        events_url = (await accepted.json())["events_url"]
    tokens = 0
    async with session.get(events_url) as stream:
        stream.raise_for_status()
        async for line in stream.content:
            if line.startswith(b"event: token"):
                if not tokens:
                    measured.first_token_seconds.append(time.perf_counter() - began)
                tokens += 1
            elif line.startswith(b"event: done"):
                measured.answer_seconds.append(time.perf_counter() - began)
                measured.tokens += TOKENS
                return
            elif line.startswith(b"event: error"):
                raise RuntimeError("the answer ended with an error event")
    raise RuntimeError("the stream ended before the answer")


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def step(setup: Machine, *, workers: int, users: int, seconds: float, base_ms: float | None) -> float:
    """Measure one step, print its row, and return the CPU milliseconds of one answer in the worker."""
    cpu, handler, began = setup.cpu_seconds(), setup.handler(), time.monotonic()
    measured = asyncio.run(load(setup.url, users=users, seconds=seconds))
    elapsed = time.monotonic() - began
    time.sleep(1.2)  # the workers write their figures twice a second
    spent = {role: after - cpu[role] for role, after in setup.cpu_seconds().items()}
    said = {name: after - handler.get(name, 0.0) for name, after in setup.handler().items()}
    answers = len(measured.answer_seconds)
    per_answer = {role: 1000 * value / max(1, answers) for role, value in spent.items()}
    parts = [100 * said[f"{part}_seconds"] / max(1e-9, said["process_seconds"]) for part in ("callback", "thread")]
    growth = per_answer["worker"] / base_ms if base_ms else 1.0
    row = [
        f"{workers:7d}{users:7d}{answers:9d}{measured.failures.total():7d}{measured.tokens / elapsed:10.0f}",
        f"{statistics.median(measured.first_token_seconds or [float('nan')]):9.2f}",
        f"{_quantile(measured.first_token_seconds, 0.95):7.2f}",
        f"{_quantile(measured.answer_seconds, 0.95) / _IDEAL_SECONDS:8.2f}",
        *(f"{per_answer[role]:9.1f}" for role in ("worker", "api", "redis", "rabbitmq")),
        f"{growth:8.2f}{parts[0]:9.2f}{parts[1]:8.2f}",
    ]
    print("".join(row), flush=True)
    for reason, count in measured.failures.most_common(3):
        print(f"{'':23}{count} failed: {reason}", flush=True)
    return per_answer["worker"]


def main() -> None:
    """Measure and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, nargs="+", default=[1, 10, 50, 100, 200, 500], help="concurrent streams")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="worker processes")
    parser.add_argument("--seconds", type=float, default=20.0, help="duration of a step")
    arguments = parser.parse_args()
    if min(*arguments.users, *arguments.workers, 1) < 1 or arguments.seconds <= 0:
        parser.error("--users, --workers and --seconds: wanted numbers above 0")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job would ignore it
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the servers are stopped
    load_average = os.getloadavg()[0]
    print(
        f"{os.cpu_count()} cores, load before {load_average:.1f}; an answer takes {_IDEAL_SECONDS:.2f} s without load."
    )
    print(f"{'':40}{'first token, s':>16}{'p95/ideal':>9}{'CPU ms of one answer':>32}{'':12}{'handler, %':>13}")
    names = (
        "workers",
        "users",
        "answers",
        "failed",
        "tokens/s",
        "p50",
        "p95",
        "answer",
        "worker",
        "api",
        "redis",
        "rabbit",
    )
    widths = (7, 7, 9, 7, 10, 9, 7, 8, 9, 9, 9, 9)
    print(
        "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
        + f"{'growth':>8}{'callers':>9}{'threads':>8}"
    )
    for workers in arguments.workers:
        # More workers are compared with one at the highest load only.
        users = arguments.users if workers == arguments.workers[0] else [max(arguments.users)]
        with (
            tempfile.TemporaryDirectory(prefix="eco2-capacity-") as folder,
            machine(Path(folder), workers=workers, users=max(users)) as setup,
        ):
            # Connections, price data and bytecode of every worker.
            asyncio.run(load(setup.url, users=4 * workers, seconds=3.0))
            base_ms = None
            for count in users:
                worker_ms = step(setup, workers=workers, users=count, seconds=arguments.seconds, base_ms=base_ms)
                base_ms = base_ms or worker_ms


if __name__ == "__main__":
    main()
