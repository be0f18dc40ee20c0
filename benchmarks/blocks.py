"""Measures CPU time of operations in alternating blocks of one process."""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping
from statistics import quantiles
from typing import NamedTuple

from handlers import Subject
from workloads import Workload

__all__ = ["Cost", "lower_quartile", "measure"]


class Cost(NamedTuple):
    """Microseconds of CPU time for one operation.

    Attributes:
        caller: On the calling thread.
        total: On all threads, with the deferred work.
    """

    caller: float
    total: float

    def above(self, base: Cost) -> Cost:
        """Return what this costs more than another."""
        return Cost(self.caller - base.caller, self.total - base.total)


def lower_quartile(values: list[float]) -> float:
    """Return the lower quartile: most of other load on a machine lies above it, and luck does not decide it."""
    return quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


async def measure(workload: Workload, subjects: Mapping[str, Subject], blocks: int) -> dict[str, Cost]:
    """Return what one operation costs by subject.

    The subjects take turns, one block each, so that a slow moment of the machine affects all of them. The first two
    blocks warm up.
    """
    taken: dict[str, list[Cost]] = {name: [] for name in subjects}
    for block in range(blocks + 2):
        for name, subject in subjects.items():
            gc.collect()
            gc.disable()
            of_process, of_thread = time.process_time(), time.thread_time()
            await workload.run(subject.handlers, workload.repeat)
            caller = time.thread_time() - of_thread
            subject.settle()
            total = time.process_time() - of_process
            gc.enable()
            if block > 1:
                scale = 1e6 / (workload.repeat * workload.operations)
                taken[name].append(Cost(caller * scale, total * scale))
    return {
        name: Cost(lower_quartile([cost.caller for cost in costs]), lower_quartile([cost.total for cost in costs]))
        for name, costs in taken.items()
    }
