"""Runs the worker as a process: settings, HTTP port, signals and shutdown."""

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
from graph.runtime import Runtime
from graph.worker.health import serve_health
from graph.worker.jobs import connect
from graph.worker.settings import WorkerSettings, read_secret_files
from graph.worker.worker import Worker

__all__ = ["run_worker"]

_PROBE_TIMEOUT_SECONDS = 1.0

_logger = logging.getLogger(__name__)


def run_worker(runtime: Runtime) -> int:
    """Run until SIGTERM or SIGINT and return the exit status: 1 if the port is in use, 2 for an invalid setting."""
    # Only warnings from other packages: HTTP clients log URLs, some of them with a key.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("graph", "eco2_callbacks"):
        logging.getLogger(name).setLevel(logging.INFO)
    try:
        read_secret_files(os.environ)
        settings, telemetry = WorkerSettings.from_env(), Settings.from_env()
        runtime.check_models()
        if os.environ.get("ECO2_CHECKPOINTS", "").strip() in {"", "memory"}:
            _logger.warning(
                "ECO2_CHECKPOINTS is unset: this process keeps conversations in its own memory, which grows."
            )
        return asyncio.run(_serve(runtime, settings, telemetry))
    except (ConfigError, GraphConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


async def _serve(runtime: Runtime, settings: WorkerSettings, telemetry: Settings) -> int:
    client = connect(settings.redis_url)
    probe = redis.Redis.from_url(
        settings.redis_url,
        socket_timeout=_PROBE_TIMEOUT_SECONDS,
        socket_connect_timeout=_PROBE_TIMEOUT_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )

    def ready() -> str:
        if worker.stopping:
            return "stopping"
        try:
            probe.ping()
        except RedisError as error:
            return f"Redis does not answer: {type(error).__name__}"
        return ""

    with probe, runtime.make_handler(telemetry, registry=REGISTRY) as handler:
        async with client, runtime.open_graph() as graph:
            worker = Worker(runtime, graph, handler, client, settings, environment=telemetry.environment)
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, worker.stop)
            with ExitStack() as stack:
                try:
                    port = stack.enter_context(
                        serve_health(settings.metrics_port, REGISTRY, alive=worker.stuck, ready=ready)
                    )
                except OSError as error:
                    sys.stderr.write(f"Port {settings.metrics_port} cannot be served: {error.strerror or error}.\n")
                    return 1
                _logger.info("Started; /metrics, /healthz and /readyz are on port %d.", port)
                await worker.run()
    _logger.info("Stopped.")
    return 0
