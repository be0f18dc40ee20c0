"""PostgreSQL and ClickHouse's engine for a test session, with a new database for each test."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.programs import free_port, skip_missing

__all__ = ["ClickHouseServer", "PostgresServer", "clickhouse_server", "postgres_server"]

_START_SECONDS = 60.0


class PostgresServer:
    """A server on the loopback, run by a user that is not root."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self.port = free_port()
        # PostgreSQL refuses to run as root; Debian's package makes this user.
        self._as_user: dict[str, Any] = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
            self._as_user = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._run("initdb", "-D", str(folder / "data"), "-A", "trust", "-U", "eco2", "-N", "--no-locale", "-E", "UTF8")

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            **self._as_user,
        )
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", str(self._folder), "-c", "fsync=off"]
        self._process = subprocess.Popen(
            [str(self._programs / "postgres"), "-D", str(self._folder / "data"), *options],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **self._as_user,
        )
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.send_signal(signal.SIGQUIT)
        self._process.wait()

    def url(self, database: str) -> str:
        return f"postgresql://eco2@127.0.0.1:{self.port}/{database}"

    def new_database(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.url(name)


class ClickHouseServer:
    """The engine in a process of its own, behind its HTTP interface."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()

    def start(self) -> None:
        program = Path(__file__).with_name("clickhouse_server.py")
        self._process = subprocess.Popen(
            [sys.executable, str(program), str(self._folder), str(self.port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + _START_SECONDS
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ping", timeout=5).close()
            except OSError:
                assert self._process.poll() is None
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def new_database(self) -> str:
        # The test's server knows no compression.
        return f"clickhouse://default:@127.0.0.1:{self.port}/test_{uuid.uuid4().hex}?compress=false"


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a server during the block."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    beside = shutil.which("initdb")
    programs = found[-1].parent if found else Path(beside).parent if beside else None
    if programs is None:
        skip_missing("initdb", "postgresql")
    with _folder() as folder:
        server = PostgresServer(programs, folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def clickhouse_server() -> Iterator[ClickHouseServer]:
    """Run the engine during the block."""
    pytest.importorskip("chdb", reason="chdb has no wheel for this Python")
    with _folder() as folder:
        server = ClickHouseServer(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a folder that another user can reach: pytest's own are closed to it."""
    folder = Path(tempfile.mkdtemp(prefix="eco2-"))
    try:
        yield folder
    finally:
        with suppress(OSError):
            shutil.rmtree(folder)
