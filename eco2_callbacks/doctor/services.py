"""Checks of the services that an application's settings name: whether they answer, and what they say."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlsplit

from eco2_callbacks.doctor.findings import Finding, Level, shown_url
from eco2_callbacks.doctor.http import Reply, UnreachableError, request
from eco2_callbacks.langsmith import api_key_of, endpoint_of, is_tracing, otel_of, otlp_endpoint_of
from eco2_callbacks.settings import ledger_of

__all__ = ["Services"]

_CONNECT_SECONDS = 5.0
_MAX_CLOCK_SECONDS = 30.0
_MAX_SCRAPE_INTERVALS = 3
_LATE_LEDGER_SECONDS = 60.0
_AMQP_HELLO = b"AMQP\x00\x00\x09\x01"
_REFUSED = (401, 403)


class Services:
    """Checks each service that these variables name; the rest is left out.

    Args:
        environ: The variables.
        prometheus: Address of Prometheus; ``""`` takes ``ECO2_PROMETHEUS_URL``.
        ledger: Address of the ledger; ``""`` takes ``ECO2_LEDGER``.
    """

    def __init__(self, environ: Mapping[str, str], *, prometheus: str = "", ledger: str = "") -> None:
        self._environ = environ
        self._prometheus = (prometheus or environ.get("ECO2_PROMETHEUS_URL", "")).strip().rstrip("/")
        self._ledger = ledger.strip() or ledger_of(environ) or ""
        self._clock_offsets: dict[str, float] = {}

    def langsmith(self) -> Iterator[Finding]:
        """Yield whether LangSmith answers and takes the key."""
        if not is_tracing(self._environ) or otel_of(self._environ) == "only":
            return
        endpoint, key = endpoint_of(self._environ), api_key_of(self._environ)
        shown = shown_url(endpoint)
        try:
            headers = {} if key is None else {"x-api-key": key}
            reply = self._request(f"{endpoint}/sessions?limit=1", headers=headers)
        except UnreachableError as error:
            yield _found("langsmith", "error", f"LangSmith at {shown} does not answer: {error}.", "Check the network.")
            return
        if reply.status in _REFUSED:
            remedy = "Set LANGSMITH_API_KEY to a key of this workspace and region."
            yield _found("langsmith", "error", f"LangSmith at {shown} refuses the key ({reply.status}).", remedy)
        elif reply.status >= 400:
            remedy = "Check LANGSMITH_ENDPOINT; a path such as /api/v1 may be missing."
            yield _found("langsmith", "warning", f"LangSmith at {shown} answers {reply.status}.", remedy)

    def otlp(self) -> Iterator[Finding]:
        """Yield whether the OTLP receiver of spans answers."""
        endpoint = otlp_endpoint_of(self._environ)
        if endpoint is None:
            return
        headers = {"Content-Type": "application/x-protobuf"}
        try:
            reply = self._request(endpoint, headers=headers, data=b"")
        except UnreachableError as error:
            remedy = "Start the collector, or correct OTEL_EXPORTER_OTLP_ENDPOINT (HTTP, port 4318; 4317 is gRPC)."
            yield _found("otlp", "error", f"OTLP at {shown_url(endpoint)} does not answer: {error}.", remedy)
            return
        if reply.status == 404:
            remedy = "Set OTEL_EXPORTER_OTLP_ENDPOINT to the receiver's base address, without /v1/traces."
            yield _found("otlp", "error", f"OTLP at {shown_url(endpoint)} has no /v1/traces (404).", remedy)
        elif reply.status in _REFUSED:
            remedy = "Set OTEL_EXPORTER_OTLP_HEADERS as the receiver's operator says."
            yield _found("otlp", "error", f"OTLP at {shown_url(endpoint)} refuses access ({reply.status}).", remedy)

    def redis(self) -> Iterator[Finding]:
        """Yield whether Redis answers a PING."""
        if not (url := self._environ.get("ECO2_REDIS_URL", "").strip()):
            return
        try:
            problem = _redis_problem(url)
        except Exception as error:  # redis raises classes of its own; the address may hold a password
            problem = f"{type(error).__name__}"
        if problem:
            remedy = "Start Redis, or correct host, port, password and database in ECO2_REDIS_URL."
            yield _found("redis", "error", f"Redis at {shown_url(url)} cannot be used: {problem}.", remedy)

    def broker(self) -> Iterator[Finding]:
        """Yield whether an AMQP broker answers."""
        if not (url := self._environ.get("ECO2_AMQP_URL", "").strip()):
            return
        remedy = "Start RabbitMQ, or correct host and port in ECO2_AMQP_URL."
        try:
            parts = urlsplit(url)
            address = parts.hostname or "127.0.0.1", parts.port or (5671 if parts.scheme == "amqps" else 5672)
            with socket.create_connection(address, timeout=_CONNECT_SECONDS) as connection:
                if parts.scheme == "amqps":
                    return  # a port that takes connections; its certificate is the client's matter
                connection.sendall(_AMQP_HELLO)
                answer = connection.recv(1)
        except (OSError, ValueError) as error:
            problem = f"{type(error).__name__}: {error}"
            yield _found("broker", "error", f"The broker at {shown_url(url)} does not answer: {problem}.", remedy)
            return
        if answer != b"\x01":
            yield _found("broker", "error", f"What answers at {shown_url(url)} is no AMQP 0-9-1 broker.", remedy)

    def ledger(self) -> Iterator[Finding]:
        """Yield whether the ledger can be read, is up to date, and gets its records."""
        if not self._ledger:
            return
        from eco2_callbacks.ledger import backend_of, read_status  # noqa: PLC0415  brings SQLAlchemy

        try:
            with closing(backend_of(self._ledger)) as backend:
                shown, status = backend.shown_url, read_status(backend)
        except Exception as error:  # each database driver raises classes of its own
            remedy = "Correct ECO2_LEDGER, start the database, and install its driver."
            yield _found("ledger", "error", f"The ledger cannot be read: {type(error).__name__}: {error}", remedy)
            return
        if status.revision is None:
            yield _found("ledger", "info", f"The ledger {shown} has no tables yet.", "eco2 ledger migrate")
        elif status.revision != status.newest_revision:
            yield _found("ledger", "warning", f"The ledger {shown} has an old schema.", "eco2 ledger migrate")
        if (status.lag_seconds or 0.0) > _LATE_LEDGER_SECONDS:
            waiting = f"{status.spooled_records:,} records wait, the oldest for {status.lag_seconds:,.0f} s"
            remedy = "Check that the database can be reached from the application, and look at its log."
            yield _found("ledger", "warning", f"{waiting} for the ledger {shown}.", remedy)

    def prometheus(self) -> Iterator[Finding]:
        """Yield whether Prometheus scrapes an application with the handler, and when it did last."""
        if not self._prometheus:
            return
        shown = shown_url(self._prometheus)
        try:
            series = self._api("query?query=" + quote("eco2_callbacks_info"))["result"]
            targets = self._api("targets?state=active")["activeTargets"]
        except (UnreachableError, KeyError, TypeError, ValueError) as error:
            remedy = "Start it, or correct --prometheus or ECO2_PROMETHEUS_URL."
            yield _found("prometheus", "error", f"Prometheus at {shown} cannot be asked: {error}.", remedy)
            return
        ours = {(each["metric"].get("job"), each["metric"].get("instance")) for each in series}
        known = [target for target in targets if _place(target) in ours]
        down = [target for target in targets if target.get("health") != "up"]
        for target in (known and [each for each in known if each.get("health") != "up"]) or (() if ours else down):
            job, instance = _place(target)
            problem = target.get("lastError") or "no scrape yet"
            remedy = "Start the application, and check the port and path of its metrics."
            yield _found("prometheus", "error", f"Target {instance} of job {job} is down: {problem}.", remedy)
        if not ours:
            remedy = "Add the application's /metrics to scrape_configs, and make sure its handler uses that registry."
            yield _found("prometheus", "error", f"Prometheus at {shown} has no series of a handler.", remedy)
        for target in known:
            yield from _last_scrape(target)

    def clock(self) -> Iterator[Finding]:
        """Yield whether this machine's clock differs from that of the servers that answered; run it last."""
        for server, offset in self._clock_offsets.items():
            if abs(offset) > _MAX_CLOCK_SECONDS:
                side = "behind" if offset > 0 else "ahead of"
                message = f"This machine's clock is {abs(offset):,.0f} s {side} that of {server}."
                yield _found("clock", "warning", message, "Turn on time synchronisation (NTP).")

    def _api(self, path: str) -> Any:
        reply = self._request(f"{self._prometheus}/api/v1/{path}")
        if reply.status != 200:
            raise UnreachableError(f"it answers {reply.status}")
        return json.loads(reply.body)["data"]

    def _request(self, url: str, **how: Any) -> Reply:
        reply = request(url, **how)
        if reply.clock_offset_seconds is not None:
            self._clock_offsets.setdefault(shown_url(url), reply.clock_offset_seconds)
        return reply


def _found(check: str, level: Level, message: str, remedy: str) -> Finding:
    return Finding(check=check, level=level, message=message, remedy=remedy)


def _place(target: Mapping[str, Any]) -> tuple[Any, Any]:
    labels = target.get("labels", {})
    return labels.get("job"), labels.get("instance")


def _last_scrape(target: Mapping[str, Any]) -> Iterator[Finding]:
    job, instance = _place(target)
    scraped = datetime.fromisoformat(target["lastScrape"][:19]).replace(tzinfo=UTC)
    age = (datetime.now(UTC) - scraped).total_seconds()
    limit = _MAX_SCRAPE_INTERVALS * _seconds(target.get("scrapeInterval", "60s"))
    if age > limit:
        message = f"Target {instance} of job {job} was scraped {age:,.0f} s ago, wanted at most {limit:,.0f} s."
        yield _found("prometheus", "warning", message, "Check Prometheus's load and the target's scrape_timeout.")
    elif target.get("health") == "up":
        message = f"Target {instance} of job {job} is up, scraped {max(age, 0):,.0f} s ago."
        yield Finding(check="prometheus", level="ok", message=message)


def _seconds(duration: str) -> float:
    """Return the seconds of a duration of Prometheus with one unit, such as ``15s`` or ``1m``; 60 for another."""
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    try:
        return float(duration[:-1]) * units[duration[-1]]
    except (KeyError, ValueError, IndexError):
        return 60.0


def _redis_problem(url: str) -> str:
    """Return why Redis cannot be used; ``""`` if it answers."""
    try:
        from redis import Redis  # noqa: PLC0415  an optional package
    except ModuleNotFoundError:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379), timeout=_CONNECT_SECONDS):
            return ""
    with Redis.from_url(url, socket_connect_timeout=_CONNECT_SECONDS, socket_timeout=_CONNECT_SECONDS) as client:
        client.ping()
    return ""
