"""Runs real servers on the loopback while a block runs: Prometheus, Alertmanager, a webhook, a metrics page.

Every server binds port 0 and reports the port it got, so no other process can take the port in between.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml
from prometheus_client import CollectorRegistry, MetricsHandler

from tests.support.programs import program

__all__ = [
    "MetricsPage",
    "Webhook",
    "alertmanager",
    "metrics_page",
    "prometheus",
    "scrape_config",
    "until",
    "webhook",
]

_START_SECONDS = 120
_STOP_SECONDS = 60
_ADDRESS = re.compile(r'msg="Listening on" address=(\S+)')


def until(wanted: str, check: Callable[[], Any], seconds: float = 120) -> Any:
    """Return the first true value of ``check``. Without one in time the test fails, with ``wanted`` in its message."""
    end = time.monotonic() + seconds
    while not (value := check()):
        if time.monotonic() > end:
            pytest.fail(f"{wanted}: not within {seconds} s")
        time.sleep(0.05)
    return value


def scrape_config(
    targets: Mapping[str, Sequence[str]],
    *,
    every: str = "500ms",
    rules: Sequence[Path] = (),
    alertmanagers: Sequence[str] = (),
) -> dict[str, Any]:
    """Return a Prometheus configuration with short intervals.

    Args:
        targets: Addresses by job.
        every: Interval of scrapes and evaluations.
        rules: Rule files.
        alertmanagers: Addresses that receive the alerts.
    """
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": [str(path) for path in rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": list(alertmanagers)}]}]},
        "scrape_configs": [
            {"job_name": job, "static_configs": [{"targets": list(addresses)}]} for job, addresses in targets.items()
        ],
    }


@contextmanager
def prometheus(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Run Prometheus with exemplar storage, and yield its URL once it is ready.

    Args:
        folder: Empty directory for its files.
        config: Its configuration.
    """
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    command = [
        program("prometheus", package="prometheus"),
        f"--config.file={path}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--enable-feature=exemplar-storage",
    ]
    with _running(command, folder / "prometheus.log") as url:
        yield url


@contextmanager
def alertmanager(folder: Path, config: Mapping[str, Any]) -> Iterator[str]:
    """Run Alertmanager and yield its URL once it is ready.

    Args:
        folder: Empty directory for its files.
        config: Its configuration.
    """
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
    command = [
        # Debian's name, and the original one.
        program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager"),
        f"--config.file={path}",
        f"--storage.path={folder / 'data'}",
        "--web.listen-address=127.0.0.1:0",
        "--cluster.listen-address=",
    ]
    with _running(command, folder / "alertmanager.log") as url:
        yield url


class MetricsPage:
    """A metrics page at ``address``. If ``alive`` is false it answers 503, so Prometheus marks it as down."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.alive = True


@contextmanager
def metrics_page(registry: CollectorRegistry) -> Iterator[MetricsPage]:
    """Serve a registry."""

    class Handler(MetricsHandler):
        def do_GET(self) -> None:  # noqa: N802 # the base class's name
            if page.alive:
                super().do_GET()
            else:
                self.send_error(503)

    Handler.registry = registry
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        page = MetricsPage(f"127.0.0.1:{server.server_port}")
        yield page


class Webhook:
    """The requests received by a webhook that listens at ``url``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.received: list[dict[str, Any]] = []

    def alerts(self, status: str) -> list[dict[str, Any]]:
        """Return the received alerts with a status, ``firing`` or ``resolved``."""
        return [alert for sent in list(self.received) for alert in sent["alerts"] if alert["status"] == status]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """Run a webhook for Alertmanager."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, _serving(server):
        hook = Webhook(f"http://127.0.0.1:{server.server_port}/")
        received = hook.received
        yield hook


@contextmanager
def _serving(server: ThreadingHTTPServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()


@contextmanager
def _running(command: Sequence[str], log: Path) -> Iterator[str]:
    """Run a server until the block ends, and yield its URL once it is ready."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        try:
            yield _ready(process, log)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()


def _ready(process: subprocess.Popen[bytes], log: Path) -> str:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        match = _ADDRESS.search(log.read_text(encoding="utf-8", errors="replace"))
        if match is not None and _answers(url := f"http://{match[1]}"):
            return url
        time.sleep(0.02)
    pytest.fail(f"{process.args} did not become ready:\n{log.read_text(encoding='utf-8', errors='replace')}")


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=1) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False
