"""A real PostgreSQL server."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.support.redis_process import free_port, need_program

__all__ = ["postgres_server"]

_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path("/usr/lib/postgresql/15/bin"))
_MAX_WAIT_SECONDS = 120.0


@contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """Run a server on the loopback during the block, and yield the URL of its database."""
    need_program(str(_BIN / "postgres"), "postgresql-15")
    as_user: list[str] = []
    data = folder / "data"
    folder.mkdir(exist_ok=True)
    if os.geteuid() == 0:  # the server refuses to run as root
        as_user = ["runuser", "-u", "postgres", "--"]
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
                parent.chmod(parent.stat().st_mode | 0o011)
        shutil.chown(folder, "postgres")
    port = free_port()
    initdb = [*as_user, str(_BIN / "initdb"), "-D", str(data), "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync"]
    subprocess.run(initdb, check=True, capture_output=True, timeout=120, cwd=folder)
    command = [str(_BIN / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", "", "-F"]
    with (folder / "postgres.log").open("wb") as log:
        process = subprocess.Popen([*as_user, *command], stdout=log, stderr=log, cwd=folder)
    url = f"postgresql://test@127.0.0.1:{port}/postgres"
    try:
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while True:
            try:
                psycopg.connect(url, connect_timeout=5).close()
                break
            except psycopg.OperationalError:
                assert process.poll() is None, (folder / "postgres.log").read_text()
                assert time.monotonic() < give_up_at
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait()
