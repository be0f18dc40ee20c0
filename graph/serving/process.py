"""Runs the API, the worker or both as one process: settings, servers, signals and shutdown."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from contextlib import AbstractContextManager, AsyncExitStack, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Literal, TypeAlias

from langgraph.checkpoint.base import BaseCheckpointSaver
from prometheus_client import REGISTRY, CollectorRegistry
from taskiq import AsyncBroker, InMemoryBroker
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LedgerError, LedgerSink, Settings
from graph.api import (
    ApiContext,
    ApiSettings,
    FeedbackSender,
    TenantLimits,
    create_app,
    feedback_client,
    make_authenticator,
)
from graph.errors import GraphConfigError
from graph.jobs import JobMetrics, JobQueue, QueueSettings, QueueUnavailableError, RabbitBroker, whole_number
from graph.replay import CassetteError
from graph.runtime import Runtime
from graph.serving.http import HttpServer, bind
from graph.serving.ops import serve_ops
from graph.serving.replaying import replaying
from graph.serving.tracing import exporting_spans, trace_requests
from graph.serving.watch import ProcessWatch
from graph.streams import JobStore, MemoryJobStore, RedisJobStore, connect_redis
from graph.worker import RunRecords, Worker, WorkerSettings, read_secret_files

__all__ = ["Role", "ServeOptions", "run_server"]

Role: TypeAlias = Literal["serve", "api", "worker"]
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_MAX_CONNECTIONS = 2000
_LEDGER = "eco2.db"
_LAST_EVENTS_SECONDS = 2.0  # for readers, after the last job has ended

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """What the command line says.

    Attributes:
        role: ``serve`` runs everything in one process; ``api`` and ``worker`` need Redis and RabbitMQ.
        host: Address of the API.
        port: Port of the API; 0 picks a free one.
        metrics_port: Port of metrics and health checks; None reads ``ECO2_METRICS_PORT``.
        replay_speed: Answer from the recordings at this speed; None uses the real providers.
    """

    role: Role = "serve"
    host: str = "127.0.0.1"
    port: int = 8000
    metrics_port: int | None = None
    replay_speed: float | None = None


def run_server(runtime: Runtime, options: ServeOptions) -> int:
    """Run until SIGTERM or SIGINT and return the exit status: 1 if a port is in use, 2 for an invalid setting."""
    # Only warnings from other packages: HTTP clients log URLs, some of them with a key.
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("graph", "eco2_callbacks"):
        logging.getLogger(name).setLevel(logging.INFO)
    for name in ("taskiq", "aio_pika", "aiormq"):  # what matters of theirs is logged here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        read_secret_files(os.environ)
        server = _Server(runtime, options)
        speed = options.replay_speed
        with exporting_spans(options.role), nullcontext() if speed is None else replaying(runtime, speed=speed):
            if options.role != "api":
                runtime.check_models()
            return asyncio.run(server.run())
    except (ConfigError, GraphConfigError, CassetteError, LedgerError) as error:
        sys.stderr.write(f"{error}\n")
        return 2


class _Server:
    """One process: what its role needs, opened in order and closed in reverse."""

    def __init__(self, runtime: Runtime, options: ServeOptions) -> None:
        self._runtime, self._options = runtime, options
        self._queue_settings, self._api_settings = QueueSettings.from_env(), ApiSettings.from_env()
        self._worker_settings, self._telemetry = WorkerSettings.from_env(), Settings.from_env()
        port = whole_number(os.environ, "ECO2_METRICS_PORT", 9464, range(65536))
        self._metrics_port = port if options.metrics_port is None else options.metrics_port
        # Probes and scrapes come from outside the pod; one process without servers stays on its address.
        self._metrics_host = options.host if options.role == "serve" else "0.0.0.0"  # noqa: S104
        self._authenticator = make_authenticator(self._api_settings)
        self._check()
        self._registry: CollectorRegistry = REGISTRY
        self._stopped = asyncio.Event()

    def _check(self) -> None:
        options = self._options
        if options.role != "serve":
            self._queue_settings.check_shared()
        if options.role != "worker" and options.host not in _LOOPBACK and not self._api_settings.authenticates:
            raise GraphConfigError(
                f"--host is {options.host!r} without authentication, wanted the loopback; set ECO2_API_TOKENS_FILE, or "
                "ECO2_JWT_ISSUER, ECO2_JWT_AUDIENCE and ECO2_JWT_JWKS_URL."
            )
        if options.role != "api" and os.environ.get("ECO2_CHECKPOINTS", "").strip() in {"", "memory"}:
            _logger.warning(
                "ECO2_CHECKPOINTS is unset: this process keeps conversations in its own memory, which grows."
            )

    async def run(self) -> int:
        """Serve until a signal arrives, and return the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._stopped.set)
        with ExitStack() as sockets:
            try:
                api = _listen(sockets, self._options.host, self._options.port) if self._serves_api else None
                ops = _listen(sockets, self._metrics_host, self._metrics_port)
            except _PortError as error:
                sys.stderr.write(f"{error}\n")
                return 1
            records, ledger = RunRecords(), sockets.enter_context(self._open_ledger())
            handler = self._runtime.make_handler(
                self._telemetry, sinks=[records], registry=self._registry, ledger=ledger
            )
            with handler:
                async with AsyncExitStack() as stack:
                    await self._serve(stack, handler, records, ledger, api, ops)
        _logger.info("Stopped.")
        return 0

    @property
    def _serves_api(self) -> bool:
        return self._options.role != "worker"

    async def _serve(
        self,
        stack: AsyncExitStack,
        handler: Eco2CallbackHandler,
        records: RunRecords,
        ledger: LedgerSink | None,
        api: socket.socket | None,
        ops: socket.socket,
    ) -> None:
        store = _make_store(self._queue_settings)
        stack.push_async_callback(store.aclose)
        queue = JobQueue(_make_broker(self._queue_settings, prefetch=self._worker_settings.concurrency))
        runs_jobs = self._options.role != "api"
        metrics = JobMetrics(self._registry, slots=self._worker_settings.concurrency if runs_jobs else 0)
        worker, checkpointer = None, None
        if runs_jobs:
            graph = await stack.enter_async_context(self._runtime.open_graph())
            worker = Worker(
                self._runtime,
                graph,
                handler,
                records,
                store,
                queue,
                self._worker_settings,
                metrics,
                ledger=ledger,
                environment=self._telemetry.environment,
                max_wait_seconds=self._queue_settings.max_wait_seconds,
                makes_spans=not (self._telemetry.tracing and self._telemetry.otel != "off"),  # LangSmith's SDK does
            )
            checkpointer = graph.checkpointer if isinstance(graph.checkpointer, BaseCheckpointSaver) else None
        watch = ProcessWatch(store, queue, metrics, self._stopped, checkpointer=checkpointer)
        stack.enter_context(serve_ops(ops, self._registry, alive=watch.stuck, ready=watch.ready))
        _logger.info("Started; /metrics, /healthz and /readyz are on port %d.", ops.getsockname()[1])
        watching = asyncio.create_task(watch.run(lambda: worker.waiting if worker is not None else 0))
        stack.callback(watching.cancel)
        if not await self._connect(queue, worker):
            return
        stack.push_async_callback(queue.shutdown)
        watch.connected = True
        if queue.has_other_length:
            metrics.mismatched()
        context = None
        if api is not None:
            context = self._api_context(handler, ledger, store, queue)
            stack.push_async_callback(context.limits.close)
            app = create_app(context)
            trace_requests(app)
            server = HttpServer(app, api, max_connections=_MAX_CONNECTIONS)
            await stack.enter_async_context(server.running())
            _logger.info("The API is on http://%s:%d/api/v1/chat.", self._options.host, server.port)
        await self._work(worker, context)

    async def _work(self, worker: Worker | None, context: ApiContext | None) -> None:
        """Run jobs and answer requests until a signal; then let jobs, and the readers of their ends, finish."""
        working = asyncio.create_task(worker.run()) if worker is not None else None
        stopped = asyncio.create_task(self._stopped.wait())
        await asyncio.wait({stopped, *([working] if working is not None else [])}, return_when=asyncio.FIRST_COMPLETED)
        if context is not None:
            context.draining.set()
        if worker is not None and working is not None:
            worker.stop()
            await working
            if context is not None:
                await context.limits.wait_for_streams(_LAST_EVENTS_SECONDS)
        if context is not None:
            context.stopping.set()

    async def _connect(self, queue: JobQueue, worker: Worker | None) -> bool:
        """Connect to the queue as soon as it answers; False if a signal comes first."""
        run_job, on_malformed = (worker.run_job, worker.bury_malformed) if worker is not None else (None, None)

        def log(state: RetryCallState) -> None:
            if state.attempt_number == 1 and state.outcome is not None:
                _logger.error("RabbitMQ does not answer, it is tried again: %s.", state.outcome.exception())

        async def connect() -> None:
            retrying = AsyncRetrying(
                retry=retry_if_exception_type(QueueUnavailableError), wait=wait_exponential(0.2, max=5), after=log
            )
            await retrying(queue.startup, run_job, on_malformed)

        connecting, stopped = asyncio.create_task(connect()), asyncio.create_task(self._stopped.wait())
        await asyncio.wait({connecting, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        if not connecting.done():
            connecting.cancel()
            await asyncio.gather(connecting, return_exceptions=True)
            return False
        connecting.result()
        return True

    def _open_ledger(self) -> AbstractContextManager[LedgerSink | None]:
        """Return the ledger of ``ECO2_LEDGER``; one process without it keeps ``eco2.db`` in its working folder.

        A ledger on a server may be away: records wait in the spool. With ``ECO2_LEDGER_AT_ONCE=1`` a record is durable
        before its callback returns, so that a killed worker loses none.
        """
        default = _LEDGER if self._options.role == "serve" else ""
        url = os.environ.get("ECO2_LEDGER", "").strip() or default
        at_once = whole_number(os.environ, "ECO2_LEDGER_AT_ONCE", 0, range(2)) == 1
        return LedgerSink(url, needs_backend=False, durable_at_once=at_once) if url else nullcontext()

    def _api_context(
        self, handler: Eco2CallbackHandler, ledger: LedgerSink | None, store: JobStore, queue: JobQueue
    ) -> ApiContext:
        settings = self._api_settings
        return ApiContext(
            store=store,
            queue=queue,
            authenticator=self._authenticator,
            limits=TenantLimits(
                redis_url=self._queue_settings.redis_url,
                requests_per_minute=settings.requests_per_minute,
                max_streams=settings.max_streams,
            ),
            feedback=FeedbackSender(
                feedback_client() if self._telemetry.tracing else None, project=self._telemetry.project, ledger=ledger
            ),
            settings=settings,
            on_recovery=handler.stream_metrics.recovered,
        )


class _PortError(OSError):
    """A port cannot be served."""


def _listen(sockets: ExitStack, host: str, port: int) -> socket.socket:
    try:
        return sockets.enter_context(bind(host, port))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise _PortError(f"Port {port} cannot be served: {reason}.") from error


def _make_store(settings: QueueSettings) -> JobStore:
    if not settings.redis_url:
        return MemoryJobStore(keep_seconds=settings.keep_seconds)
    return RedisJobStore(connect_redis(settings.redis_url), keep_seconds=settings.keep_seconds)


def _make_broker(settings: QueueSettings, *, prefetch: int) -> AsyncBroker:
    if not settings.amqp_url:
        return InMemoryBroker(max_stored_results=1)
    return RabbitBroker(settings.amqp_url, prefetch=prefetch, max_waiting=settings.max_waiting)
