"""A local LangSmith: the real client sends to it, and it keeps each run as its first end left it."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import langsmith

from tests.support.langsmith_wire import ROUTES, Kind, read_operations

__all__ = ["Ingest", "LangSmithServer", "Operation", "refused_url"]

Ingest = Literal["multipart", "zstd", "batch"]
_SETTLE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Operation:
    """One post or patch of a run, or one feedback, as it arrived.

    ``payload`` holds inputs, outputs, extra, events, error and attachments, whatever the ingest format. ``encoding`` is
    the request's content encoding. ``request`` is the number of the request that carried it, from 1.
    """

    kind: Kind
    id: str
    payload: dict[str, Any]
    path: str
    encoding: str
    headers: Mapping[str, str]
    request: int


@dataclass(frozen=True, slots=True)
class _Fault:
    """What happens to every request until the server recovers: a delay, then a status other than success."""

    recovered: threading.Event
    wait_seconds: float | None = 0.0
    status: int | None = None
    retry_after_seconds: int | None = None


class LangSmithServer:
    """Answers a ``langsmith.Client`` on the loopback inside its block, and keeps what was sent.

    Args:
        ingest: The format that ``/info`` tells the client to use. ``multipart`` merges post and patch of a run that
            meet in the client's queue. ``zstd`` is what hosted LangSmith uses, and sends both. ``batch`` is JSON.
        size_limit: How many operations the client may send in one request.

    Raises:
        ExceptionGroup: At the end of the block, if a request could not be read.
    """

    def __init__(self, *, ingest: Ingest = "multipart") -> None:
        self.ingest = ingest
        self.info = {
            # From 0.8.10 on the client sends feedback by multipart.
            "version": "0.15.0",
            "batch_ingest_config": {
                "use_multipart_endpoint": ingest != "batch",
                "size_limit": 100,
                "size_limit_bytes": 20_971_520,
                "scale_up_qsize_trigger": 1000,
                "scale_up_nthreads_limit": 16,
                "scale_down_nempty_trigger": 4,
            },
            "instance_flags": {"zstd_compression_enabled": ingest == "zstd"},
        }
        self.project_id = str(uuid4())
        self._arrived = threading.Condition()
        self._operations: list[Operation] = []
        self._requests: Counter[str] = Counter()
        self._unreadable: list[BaseException] = []
        self._fault: _Fault | None = None

    def __enter__(self) -> Self:
        self._http = _Http(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.recover()
        self._http.shutdown()
        self._thread.join()
        self._http.hang_up()
        self._http.server_close()
        if exc is None and self._unreadable:
            raise BaseExceptionGroup("requests that could not be read", self._unreadable)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @contextmanager
    def client(self, **options: Any) -> Iterator[langsmith.Client]:
        """Yield a real client that sends to this server, and close it at the end."""
        with self.serving(langsmith.Client(**{"api_url": self.url, "api_key": "lsv2_pt_test", **options})) as client:
            yield client

    @contextmanager
    def serving(self, client: langsmith.Client) -> Iterator[langsmith.Client]:
        """Wait until the client has the server's info; at the end recover, flush the client and close it."""
        try:
            self._await_info(client)
            yield client
        finally:
            self.recover()
            _settle(client)

    def _await_info(self, client: langsmith.Client) -> None:
        # The client requests the info on its own thread, and compresses only what it queues after the answer.
        deadline = time.monotonic() + 60
        requests_info = client.tracing_queue is not None and client.api_url == self.url and self._fault is None
        while requests_info and (client.compressed_traces if self.ingest == "zstd" else client._info) is None:
            assert time.monotonic() < deadline, (
                "The client did not request the info, or did not start to compress, within 60 s."
            )
            time.sleep(0.002)

    # What has arrived. After client.flush() everything has; without a flush, use wait().

    @property
    def operations(self) -> list[Operation]:
        """Every post, patch and feedback in the order of arrival, retries of the client included."""
        with self._arrived:
            return list(self._operations)

    @property
    def requests(self) -> Counter[str]:
        """How many requests arrived, failed ones included, by method and path: ``POST /runs/multipart``."""
        with self._arrived:
            return Counter(self._requests)

    @property
    def feedback(self) -> list[dict[str, Any]]:
        return [operation.payload for operation in self.operations if operation.kind == "feedback"]

    def patches(self, run_id: str) -> list[Operation]:
        """Every patch of a run, late ones included."""
        return [operation for operation in self.operations if operation.kind == "patch" and operation.id == run_id]

    def runs(self) -> dict[str, dict[str, Any]]:
        """Every posted run as LangSmith keeps it: the post and its first end, without later patches."""
        runs: dict[str, dict[str, Any]] = {}
        operations = self.operations
        for operation in operations:
            if operation.kind == "post":
                runs.setdefault(operation.id, dict(operation.payload))
        for operation in operations:
            if operation.kind == "patch" and operation.id in runs and not _ended(runs[operation.id]):
                runs[operation.id] |= {key: value for key, value in operation.payload.items() if value is not None}
        return runs

    def run(self, **fields: Any) -> dict[str, Any]:
        """Return the one run with these fields, such as ``name`` and ``run_type``."""
        runs = self.runs().values()
        found = [run for run in runs if all(run.get(key) == value for key, value in fields.items())]
        assert len(found) == 1, f"{len(found)} runs with {fields}, of {[(r['run_type'], r['name']) for r in runs]}"
        return found[0]

    def roots(self) -> list[dict[str, Any]]:
        return [run for run in self.runs().values() if run.get("parent_run_id") is None]

    def children(self, run: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [child for child in self.runs().values() if child.get("parent_run_id") == run["id"]]

    def wait(self, until: Callable[[Self], bool], *, timeout_seconds: float = 60.0) -> None:
        """Return as soon as the condition holds; it is checked after each request."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: until(self), timeout_seconds), f"Not within {timeout_seconds} s."

    # Faults. Each one replaces the fault before it.

    def fail_with(self, status: int, *, retry_after_seconds: int | None = None) -> None:
        """Answer with this status and keep nothing, until the server recovers."""
        self._set_fault(_Fault(threading.Event(), status=status, retry_after_seconds=retry_after_seconds))

    def hang(self, seconds: float | None = None) -> None:
        """Read each request, but answer it only after so many seconds, or once the server recovers."""
        self._set_fault(_Fault(threading.Event(), wait_seconds=seconds))

    def recover(self) -> None:
        """Answer every request again, including those that hang."""
        self._set_fault(None)

    def _set_fault(self, fault: _Fault | None) -> None:
        with self._arrived:
            previous, self._fault = self._fault, fault
        if previous is not None:
            previous.recovered.set()

    def answer(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], Any]:
        """Return status, headers and body for one request; called on its connection's thread."""
        path = path.partition("?")[0]
        # One key for all runs.
        route = f"{method} {'/runs/{id}' if method == 'PATCH' and path.startswith('/runs/') else path}"
        with self._arrived:
            self._requests[route] += 1
            number, fault = self._requests.total(), self._fault
            self._arrived.notify_all()
        if fault is not None:
            fault.recovered.wait(fault.wait_seconds)
            if fault.status is not None:
                retry = {} if fault.retry_after_seconds is None else {"Retry-After": str(fault.retry_after_seconds)}
                return fault.status, retry, {"detail": "fault of the test"}
        if route == "GET /info":
            return 200, {}, self.info
        if route == "GET /sessions":
            # There is one project, whatever its name.
            return 200, {}, [{"id": self.project_id, "tenant_id": str(uuid4()), "reference_dataset_id": None}]
        if route not in ROUTES:
            return 404, {}, {"detail": "Not Found"}
        try:
            encoding = headers.get("content-encoding", "identity")
            read = read_operations(route, path, headers, body)
            operations = [Operation(*operation, path, encoding, headers, number) for operation in read]
        except Exception as error:
            error.add_note(f"{method} {path}")
            self.report_error(error)
            return 422, {}, {"detail": repr(error)}
        with self._arrived:
            self._operations.extend(operations)
            self._arrived.notify_all()
        return 202, {}, {"message": "ingested"}

    def report_error(self, error: BaseException) -> None:
        """Fail the block at its end with an error from a thread of the server."""
        with self._arrived:
            self._unreadable.append(error)


def _settle(client: langsmith.Client) -> None:
    deadline = time.monotonic() + _SETTLE_SECONDS
    client.flush(timeout=_SETTLE_SECONDS)
    # The session is closed last: a thread that still sends would open a new one, which would stay open.
    client.cleanup(timeout=0)
    if client.tracing_queue is not None and client.tracing_queue.empty():
        # An empty item is skipped but wakes the thread, which otherwise takes a quarter of a second to notice.
        client.tracing_queue.put_nowait(())
    while threads := [thread for thread in threading.enumerate() if _belongs_to(thread, client)]:
        assert time.monotonic() < deadline, f"After {_SETTLE_SECONDS} s the client still runs {threads}."
        threads[0].join(0.1)
    client.close(timeout=0)


@contextmanager
def refused_url() -> Iterator[str]:
    """Yield a URL that refuses every connection: its port is bound, and nothing listens on it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def _ended(run: Mapping[str, Any]) -> bool:
    return run.get("end_time") is not None or bool(run.get("outputs"))


def _belongs_to(thread: threading.Thread, client: langsmith.Client) -> bool:
    # The client keeps no list of its threads; each has a weak reference to the client among its arguments.
    given = getattr(thread, "_args", ())
    return any(isinstance(argument, weakref.ref) and argument() is client for argument in given)


class _Http(ThreadingTCPServer):
    """Keeps its connections, so that the kept-alive ones end with the server."""

    allow_reuse_address = True
    # Enough for many clients at once.
    request_queue_size = 128

    def __init__(self, langsmith_server: LangSmithServer) -> None:
        self.langsmith = langsmith_server
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        with self._lock:
            for connection in self._connections:
                with suppress(OSError):  # the client has closed it already
                    connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        # A client that no longer waits is part of the tests.
        if error is not None and not isinstance(error, ConnectionError):
            self.langsmith.report_error(error)


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    # The answer is sent in one piece; Nagle's algorithm would delay a second piece.
    wbufsize = -1

    def _answer(self) -> None:
        length = int(self.headers.get("content-length", 0))
        if len(body := self.rfile.read(length)) < length:
            raise ConnectionAbortedError(f"The client sent {len(body)} of {length} bytes.")
        named = {name.lower(): value for name, value in self.headers.items()}
        status, headers, answer = self.server.langsmith.answer(self.command, self.path, named, body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PATCH = do_DELETE = do_PUT = _answer  # noqa: N815 # the base class's names

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass
