"""Writes to a ledger in forked children that are killed at random times; run in a process of its own.

    python -m tests.support.ledger_killer URL ROUNDS FILE [at-once]

FILE gets one line for each call whose ``emit`` returned: round, run id, picodollars, seconds until the kill, and the
longest that the machine had stalled the child by then.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from eco2_callbacks import LedgerSink, TokenUsage
from eco2_callbacks.ledger.cells import picodollars
from tests.support.ledger_records import call

__all__ = ["main"]

_SEED = 20261129


@dataclass
class _Stall:
    """The longest time that the child lost: its threads did not run, or the disk did not write."""

    seconds: float = 0.0

    def watch(self, folder: str) -> None:
        with tempfile.TemporaryFile(dir=folder) as file:
            while True:
                started = time.monotonic()
                time.sleep(0.005)
                file.write(b"x")
                file.flush()
                os.fsync(file.fileno())
                self.seconds = max(self.seconds, time.monotonic() - started - 0.005)


def _child(url: str, writer: int, at_once: bool, folder: str) -> None:
    sink = LedgerSink(url, durable_at_once=at_once)
    stall = _Stall()
    threading.Thread(target=stall.watch, args=(folder,), daemon=True).start()

    def work(number: int) -> None:
        while True:
            made = call(usage=TokenUsage(input_tokens=random.randrange(1, 5000), output_tokens=number + 1))
            assert made.cost is not None
            sink.emit(made)
            picos = picodollars(made.cost.total_usd)
            os.write(writer, f"{made.run_id} {picos} {time.monotonic()} {stall.seconds}\n".encode())
            if not at_once:
                time.sleep(0.002)

    for number in range(3):
        threading.Thread(target=work, args=(number,), daemon=True).start()
    signal.pause()


def main(url: str, rounds: int, path: Path, at_once: bool) -> None:
    """Run the rounds."""
    rng = random.Random(_SEED)
    with path.open("w") as file:
        for number in range(rounds):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.close(reader)
                random.seed(number)
                try:
                    _child(url, writer, at_once, str(path.parent))
                finally:
                    os._exit(1)
            os.close(writer)
            with os.fdopen(reader) as lines:
                first = lines.readline()
                time.sleep(rng.uniform(0.05, 0.7))
                os.kill(pid, signal.SIGKILL)
                killed_at = time.monotonic()
                os.waitpid(pid, 0)
                found = [first, *lines.readlines()]
            for line in found:
                if line.endswith("\n"):
                    run_id, picos, returned_at, stall = line.split()
                    file.write(f"{number} {run_id} {picos} {killed_at - float(returned_at)} {stall}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["at-once"])
