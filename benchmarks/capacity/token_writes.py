"""Compares token writes in batches with single writes, on a real Redis.

    uv run python benchmarks/capacity/token_writes.py --jobs 1 20 100 --tokens 300

Every job is a publisher that gets its tokens at a model's pace; the two ways differ in the most events of one write. A
batch forms only while a write is under way: with few jobs both ways do the same.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

_ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(_ROOT))

from graph.streams import JobStore, NewJob, Publisher, RedisJobStore, connect_redis  # noqa: E402
from tests.support.redis_process import RedisProcess, redis_process  # noqa: E402

TOKEN_SECONDS = 0.011
_LEASE_SECONDS = 60.0
_WAYS = {"batches": 200, "single writes": 1}


@dataclass(frozen=True)
class Written:
    """What one way took.

    Attributes:
        seconds: Until the last job's last event was stored.
        late_seconds: How much later that was than its last token: how far the writes were behind.
        writes: Calls of the append script.
        redis_us: CPU of Redis for one token.
        client_us: CPU of this process for one token.
    """

    seconds: float
    late_seconds: float
    writes: int
    redis_us: float
    client_us: float


async def _publish(store: JobStore, max_batch: int, tokens: int, token_seconds: float) -> float:
    """Publish one job and return how many seconds after its last token its last event was stored."""
    job = NewJob(job_id=uuid4().hex, accepted_at=datetime.now(UTC))
    await store.accept(job)
    claim = await store.claim(job, owner="benchmark", alone=False, lease_seconds=_LEASE_SECONDS, max_shared_crashes=1)
    publisher = Publisher(store, job, claim.run, owner="benchmark", lease_seconds=_LEASE_SECONDS, max_batch=max_batch)
    loop = asyncio.get_running_loop()
    due = loop.time()
    for number in range(tokens):
        publisher.put("token", node="answer", text=f"{number} ")
        due += token_seconds
        await asyncio.sleep(max(0.0, due - loop.time()))
    ended = time.perf_counter()
    await publisher.finish("done", "done")
    return time.perf_counter() - ended


async def measure(
    redis: RedisProcess, *, jobs: int, tokens: int, max_batch: int, token_seconds: float = TOKEN_SECONDS
) -> Written:
    """Publish so many jobs at once."""
    store = RedisJobStore(connect_redis(redis.url))
    try:
        calls, redis_cpu, cpu, began = _calls(redis), _redis_cpu(redis), time.process_time(), time.perf_counter()
        late = await asyncio.gather(*(_publish(store, max_batch, tokens, token_seconds) for _ in range(jobs)))
        seconds = time.perf_counter() - began
        return Written(
            seconds=seconds,
            late_seconds=max(late),
            writes=_calls(redis) - calls,
            redis_us=1e6 * (_redis_cpu(redis) - redis_cpu) / (jobs * tokens),
            client_us=1e6 * (time.process_time() - cpu) / (jobs * tokens),
        )
    finally:
        await store.aclose()


def _calls(redis: RedisProcess) -> int:
    stats = redis.client.info("commandstats")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("evalsha", "fcall", "eval"))


def _redis_cpu(redis: RedisProcess) -> float:
    cpu = redis.client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 20, 100, 200], help="concurrent streams")
    parser.add_argument("--tokens", type=int, default=300, help="tokens of each")
    parser.add_argument(
        "--pace", type=float, default=TOKEN_SECONDS, help="seconds between two tokens of a stream (default: 0.011)"
    )
    arguments = parser.parse_args()
    names = ("jobs", "way", "tokens/s", "late, s", "writes", "tokens/write", "redis us", "client us")
    print("".join(f"{name:>{width}}" for name, width in zip(names, (6, 16, 10, 9, 9, 14, 10, 11), strict=True)))
    with tempfile.TemporaryDirectory(prefix="eco2-writes-") as folder, redis_process(Path(folder)) as redis:
        for jobs in arguments.jobs:
            for way, max_batch in _WAYS.items():
                tokens, pace = arguments.tokens, arguments.pace
                found = asyncio.run(measure(redis, jobs=jobs, tokens=tokens, max_batch=max_batch, token_seconds=pace))
                total = jobs * tokens
                print(
                    f"{jobs:6d}{way:>16}{total / found.seconds:10.0f}{found.late_seconds:9.2f}{found.writes:9d}"
                    f"{total / found.writes:14.1f}{found.redis_us:10.1f}{found.client_us:11.1f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
