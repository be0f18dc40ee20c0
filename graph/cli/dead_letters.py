"""The command that lists dead letters and runs their jobs again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Collection

from rich.console import Console
from rich.table import Table

from graph.errors import GraphConfigError
from graph.jobs import QueueSettings, list_dead_letters, replay_dead_letters
from graph.streams import RedisJobStore, StoreUnavailableError, connect_redis
from graph.worker import read_secret_files

__all__ = ["run_dead_letters"]


def run_dead_letters(*, job_ids: Collection[str] | None = None, replay: bool = False) -> int:
    """List the dead letters or put them back into the queue, and return the exit status.

    Args:
        job_ids: Only these jobs; None takes all.
        replay: Put them back.
    """
    try:
        read_secret_files(os.environ)
        settings = QueueSettings.from_env()
        settings.check_shared()
        return asyncio.run(_replay(settings, job_ids) if replay else _list(settings, job_ids))
    except GraphConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (OSError, StoreUnavailableError) as error:
        sys.stderr.write(f"The queue or Redis does not answer: {error}\n")
        return 1


async def _list(settings: QueueSettings, job_ids: Collection[str] | None) -> int:
    letters = [
        letter for letter in await list_dead_letters(settings.amqp_url) if job_ids is None or letter.job_id in job_ids
    ]
    table = Table("job", "reason", "bytes")
    for letter in letters:
        table.add_row(letter.job_id or "unreadable", letter.reason, f"{letter.size_bytes:,}")
    Console().print(table if letters else "There are no dead letters.")
    return 0


async def _replay(settings: QueueSettings, job_ids: Collection[str] | None) -> int:
    store = RedisJobStore(connect_redis(settings.redis_url), keep_seconds=settings.keep_seconds)
    try:
        replayed = await replay_dead_letters(settings.amqp_url, store, job_ids)
    finally:
        await store.aclose()
    Console().print(f"Put back: {', '.join(replayed) or 'none'}.", highlight=False)
    return 0 if replayed else 1
