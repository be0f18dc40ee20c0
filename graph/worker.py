"""The worker's process: its settings, its port, its signals and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import ExitStack

import redis
from prometheus_client import REGISTRY
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from eco2_callbacks import ConfigError, Settings
from graph.errors import GraphConfigError
from graph.health import serving
from graph.jobs import connect
from graph.stage import Stage
from graph.work import Worker
from graph.worker_env import WorkerSettings, read_secret_files

__all__ = ["worker"]

_SECONDS_TO_PROBE = 1.0

_logger = logging.getLogger(__name__)


def worker(stage: Stage) -> int:
    """Work until SIGTERM or SIGINT, and return the exit status: 1 if the port is taken, 2 for a wrong setting."""
    # No more than warnings of other packages: HTTP clients log addresses, some with a service's key.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("graph", "eco2_callbacks"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        read_secret_files(os.environ)
        settings, telemetry = WorkerSettings.from_env(), Settings.from_env()
        stage.check()
        if os.environ.get("ECO2_CHECKPOINTS", "").strip() in {"", "memory"}:
            _logger.warning(
                "ECO2_CHECKPOINTS is unset: conversations are known to this process alone, and pile up in it."
            )
        return asyncio.run(_serve(stage, settings, telemetry))
    except (ConfigError, GraphConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _serve(stage: Stage, settings: WorkerSettings, telemetry: Settings) -> int:
    client = connect(settings.redis_url)
    probe = redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=_SECONDS_TO_PROBE,
        socket_connect_timeout=_SECONDS_TO_PROBE,
        retry=Retry(NoBackoff(), 0),
    )

    def ready() -> str:
        if working.stopping:
            return "stopping"
        try:
            probe.ping()
        except RedisError as error:
            return f"Redis does not answer: {type(error).__name__}"
        return ""

    with probe, stage.make_handler(telemetry, registry=REGISTRY) as handler:
        async with client, stage.graph() as graph:
            working = Worker(stage, graph, handler, client, settings, environment=telemetry.environment)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, working.stop)
            with ExitStack() as stack:
                try:
                    port = stack.enter_context(
                        serving(settings.metrics_port, REGISTRY, alive=working.stuck, ready=ready)
                    )
                except OSError as error:
                    sys.stderr.write(f"Port {settings.metrics_port} cannot be served: {error.strerror or error}.\n")
                    return 1
                _logger.info("Working; /metrics, /healthz and /readyz are on port %d.", port)
                await working.run()
    _logger.info("Stopped.")
    return 0
