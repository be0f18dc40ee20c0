"""LocalFile: a SQLite file that survives crashes, forks, full disks and corruption."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eco2_callbacks import forks
from eco2_callbacks.errors import LedgerError

__all__ = ["FileLock", "LocalFile", "corrupt_suffix", "is_corrupt", "is_full", "open_private", "open_sqlite"]

_logger = logging.getLogger(__name__)
_BUSY_SECONDS = 30.0
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
# A write that fails for want of space can be an I/O error to SQLite.
_FULL = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR})
# No space, the user's quota, the largest size of a file.
_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_SIDE_FILES = ("", "-wal", "-shm")
# How long a fork waits for another thread's transaction.
_FORK_SECONDS = 5.0
# SQLite's connections must not be closed in a forked child: they are kept for as long as the process lives.
_open_before_fork: list[sqlite3.Connection] = []


def is_corrupt(error: BaseException) -> bool:
    """Return whether the error says that the file is no sound database."""
    return _primary_code(error) in _CORRUPT


def is_full(error: BaseException) -> bool:
    """Return whether the error says that the disk takes no more."""
    return _primary_code(error) in _FULL or (isinstance(error, OSError) and error.errno in _FULL_ERRNOS)


def corrupt_suffix() -> str:
    """Return how the name of a file ends that is moved aside now."""
    return f"corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}-{time.time_ns()}"


def open_private(path: str, flags: int) -> int:
    """Open a file that only this user can read; the ``opener`` of ``open``."""
    return os.open(path, flags, 0o600)


def _inode_of(path: Path) -> int | None:
    """Return what tells a file from others, None where there is none."""
    try:
        return path.stat().st_ino
    except OSError:
        return None


def _primary_code(error: BaseException) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def open_sqlite(path: Path) -> sqlite3.Connection:
    """Open a file in WAL mode; a commit survives the end of the process and of the machine."""
    # Statements are committed by hand, and the file is used by one thread at a time.
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
    except BaseException:
        connection.close()
        raise
    return connection


class LocalFile(forks.ForkAware):
    """A SQLite file with one connection per process, opened when it is needed.

    No connection is open across a fork. SQLite keeps in the process's memory which locks it holds: a child would
    believe to hold the parent's, wait for ever for one, or go on writing to a log that the parent has removed.

    Args:
        path: The file; its folder is made.
        schema: Statements that make its tables if they are missing.
        what: What it is, for messages.

    Raises:
        LedgerError: If the folder or the file cannot be written.
    """

    def __init__(self, path: Path, *, schema: str, what: str) -> None:
        self.path = path
        self._schema = schema
        self._what = what
        self._connection: sqlite3.Connection | None = None
        self._inode: int | None = None
        self._pid = os.getpid()
        self._is_held = False
        self.lock = threading.RLock()
        forks.register(self)

    def check(self) -> None:
        """Open the file and write to it; a corrupt file is moved aside."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.write_probe()
        except (OSError, sqlite3.Error) as error:
            if is_corrupt(error):
                self.move_aside()
                return
            raise LedgerError(
                f"The {self._what} {str(self.path)!r} cannot be written: {error}. "
                "Name a file in a folder that this user may write to."
            ) from error

    def write_probe(self) -> None:
        """Take the write lock once."""
        with self.lock:
            connection = self.connection()
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Run statements in one transaction, which has the write lock from its start; an exception rolls it back."""
        with self.lock:
            connection = self.connection()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def connection(self) -> sqlite3.Connection:
        """Return this process's connection."""
        if self._pid != os.getpid():
            self.after_fork_in_child()
        if self._connection is None:
            connection = open_sqlite(self.path)
            try:
                if self._schema:
                    connection.executescript(self._schema)
                self._inode = self.path.stat().st_ino
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def follow(self) -> bool:
        """Open the file anew if the path has another one by now, or none; return whether it had.

        Another process has moved it aside, or someone has deleted it. What was written meanwhile may have gone with it.
        """
        with self.lock:
            if self._inode is None or _inode_of(self.path) == self._inode:
                return False
            self.close()
            # Whoever moves a file aside holds the lock until its side files are gone and a new file is begun.
            with self._moving():
                self.connection()
            return True

    def _moving(self) -> FileLock:
        return FileLock(self.path.with_name(self.path.name + ".lock"), wait_seconds=_BUSY_SECONDS)

    def before_fork(self) -> None:
        """Wait for the transaction of another thread, and close the connection."""
        self._is_held = self.lock.acquire(timeout=_FORK_SECONDS)
        if self._is_held:
            self.close()

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""
        if self._is_held:
            self._is_held = False
            self.lock.release()

    def after_fork_in_child(self) -> None:
        """Begin with a lock of its own; a connection that could not be closed is left alone."""
        if self._connection is not None:
            _open_before_fork.append(self._connection)
        self._connection, self._pid, self.lock, self._is_held = None, os.getpid(), threading.RLock(), False

    def close(self) -> None:
        """Close the connection; it is opened again when needed."""
        with self.lock:
            connection, self._connection = self._connection, None
            if connection is not None and self._pid == os.getpid():
                with suppress(sqlite3.Error):
                    connection.close()

    def move_aside(self) -> Path | None:
        """Rename a corrupt file and begin a new one; return its new name, None if another process did it."""
        with self.lock:
            seen = self._inode
            self.close()
            with self._moving():
                if seen is not None and _inode_of(self.path) not in (seen, None):
                    return None
                aside = self.path.with_name(f"{self.path.name}.{corrupt_suffix()}")
                for side in _SIDE_FILES:
                    with suppress(FileNotFoundError):
                        os.replace(f"{self.path}{side}", f"{aside}{side}")
                self.connection()
        _logger.error(
            "The %s %s is corrupt; it was moved to %s and a new one begun. Recover its rows with sqlite3's .recover.",
            self._what,
            self.path,
            aside,
        )
        return aside


class FileLock(forks.ForkAware):
    """A lock between processes, held in a SQLite file: the system releases it when its holder dies.

    A fork gives it back, as a child could never take it otherwise.

    Args:
        path: A file of its own.
        wait_seconds: How long to wait for it; 0 tries once.
    """

    def __init__(self, path: Path, *, wait_seconds: float = 0.0) -> None:
        self._path = path
        self._wait_seconds = wait_seconds
        self._connection: sqlite3.Connection | None = None
        self._is_held = False
        self._lock = threading.RLock()
        forks.register(self)

    def acquire(self) -> bool:
        """Take the lock, and return whether it was free in time."""
        with self._lock:
            connection = sqlite3.connect(
                self._path, timeout=self._wait_seconds, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError:
                connection.close()
                return False
            self._connection = connection
            return True

    def release(self) -> None:
        """Give the lock back."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                connection.close()

    def before_fork(self) -> None:
        """Give the lock back: two processes can then ship the same rows, which are stored once."""
        self._is_held = self._lock.acquire(timeout=_FORK_SECONDS)
        if self._is_held:
            self.release()

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""
        if self._is_held:
            self._is_held = False
            self._lock.release()

    def after_fork_in_child(self) -> None:
        """Begin without the lock; a connection that could not be closed is left alone."""
        if self._connection is not None:
            _open_before_fork.append(self._connection)
        self._connection, self._lock, self._is_held = None, threading.RLock(), False

    def __enter__(self) -> FileLock:
        if not self.acquire():
            raise LedgerError(f"Another process holds {str(self._path)!r}; wait for it to end, or delete the file.")
        return self

    def __exit__(self, *exc: object) -> None:
        self.release()
