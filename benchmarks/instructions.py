"""Counts instructions of one operation under valgrind: the same on a busy machine, so small changes show.

A program runs an operation a few times and then more often. The difference of both runs, divided by the difference in
number, is one operation; what the start of the program takes falls out.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from handlers import Subject, eco2, eco2_with_queued_sink, floor, nothing, traced
from workloads import WORKLOADS

__all__ = ["SUBJECTS", "count"]

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "none": nothing,
    "floor": floor,
    "eco2_callbacks": eco2,
    "eco2_callbacks, queued sink": eco2_with_queued_sink,
    "tracer": traced,
    "tracer and eco2_callbacks": lambda: traced(eco2()),
}
# Repetitions of the shorter and the longer run; the second is longer by two blocks of 64 records.
_SHORT, _LONG = 64, 192
_REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")


def count(workload: str, subject: str) -> float:
    """Return the instructions of one operation, on all threads, deferred work included.

    Raises:
        RuntimeError: If valgrind is not installed or the program failed.
    """
    per_repetition = WORKLOADS[workload].operations
    repetitions = (_SHORT, _LONG) if per_repetition == 1 else (1, 2)
    short, long = (_instructions(workload, subject, times) for times in repetitions)
    return (long - short) / ((repetitions[1] - repetitions[0]) * per_repetition)


def _instructions(workload: str, subject: str, times: int) -> int:
    with tempfile.TemporaryDirectory() as bytecode:
        environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONPYCACHEPREFIX": bytecode}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        program = [sys.executable, str(Path(__file__)), workload, subject]
        # Compiles the modules: under valgrind that takes minutes.
        subprocess.run([*program, "1"], env=environment, check=True, capture_output=True)
        valgrind = ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null")
        try:
            completed = subprocess.run(
                [*valgrind, *program, str(times)], env=environment, check=False, capture_output=True, text=True
            )
        except FileNotFoundError as error:
            raise RuntimeError("valgrind is not installed; install it with apt-get install valgrind.") from error
    found = _REFERENCES.search(completed.stderr)
    if completed.returncode or found is None:
        raise RuntimeError(f"The program failed under valgrind: {completed.stderr[-2000:]}")
    return int(found[1].replace(",", ""))


def _run(workload: str, subject: str, times: int) -> None:
    chosen = SUBJECTS[subject]()
    asyncio.run(_block(workload, chosen, times))
    chosen.settle()


async def _block(workload: str, subject: Subject, times: int) -> None:
    await WORKLOADS[workload].run(subject.handlers, times)


if __name__ == "__main__":
    _run(sys.argv[1], sys.argv[2], int(sys.argv[3]))
