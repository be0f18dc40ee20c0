"""Writes to a ledger in forked children that are killed at random times; run in a process of its own.

    python -m tests.support.ledger_killer URL ROUNDS FILE [at-once]

FILE gets one line for each call whose ``emit`` returned: round, run id, picodollars, seconds until the kill, and the
longest that the machine stalled the child in these seconds.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path

from eco2_callbacks import LedgerSink, TokenUsage
from eco2_callbacks.ledger.cells import picodollars
from tests.support.ledger_records import call

__all__ = ["main"]

_SEED = 20261129
_TICK_SECONDS = 0.005
_PIPE_BYTES = 1_000_000


def _watch(folder: str, writer: int) -> None:
    """Report each moment at which a thread of the child runs and the disk writes."""
    with tempfile.TemporaryFile(dir=folder) as file:
        while True:
            time.sleep(_TICK_SECONDS)
            file.write(b"x")
            file.flush()
            os.fsync(file.fileno())
            os.write(writer, f"tick {time.monotonic()}\n".encode())


def _child(url: str, writer: int, at_once: bool, folder: str) -> None:
    sink = LedgerSink(url, durable_at_once=at_once)
    threading.Thread(target=_watch, args=(folder, writer), daemon=True).start()

    def work(number: int) -> None:
        while True:
            made = call(usage=TokenUsage(input_tokens=random.randrange(1, 5000), output_tokens=number + 1))
            assert made.cost is not None
            sink.emit(made)
            picos = picodollars(made.cost.total_usd)
            os.write(writer, f"call {time.monotonic()} {made.run_id} {picos}\n".encode())
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
            # A full pipe would stall the child.
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
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
                found = [lines.readline()]
                while found[-1].startswith("tick"):
                    found.append(lines.readline())
                time.sleep(rng.uniform(0.05, 0.7))
                os.kill(pid, signal.SIGKILL)
                killed_at = time.monotonic()
                os.waitpid(pid, 0)
                found += lines.readlines()
            events = [line.split() for line in found if line.endswith("\n")]
            ticks = [float(at) for kind, at, *_ in events if kind == "tick"]
            pauses = list(pairwise([*ticks, killed_at]))
            for kind, at, *call_fields in events:
                if kind == "call":
                    returned_at = float(at)
                    stall = max((after - before for before, after in pauses if after > returned_at), default=0.0)
                    file.write(f"{number} {' '.join(call_fields)} {killed_at - returned_at} {stall}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:] == ["at-once"])
