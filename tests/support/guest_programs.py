"""Programs that tests run as processes of their own: ``python -m tests.support.guest_programs NAME [ARGUMENT...]``."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed

FORK = multiprocessing.get_context("fork")


class File:
    """A sink with I/O: one line per record."""

    def __init__(self, path: str) -> None:
        self.path = path

    def emit(self, record: Any) -> None:
        with Path(self.path).open("a") as file:
            file.write(f"{os.getpid()}\n")

    def close(self) -> None: ...


def open_stream_at_exit(kind: str) -> None:
    """End with a stream that was read in part; ``kind`` says what its record reaches."""
    sinks: dict[str, list[Any]] = {"none": [], "memory": [Records()], "file": [File(os.devnull)]}
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=sinks[kind])
    globals()["kept"] = stream = FakeModel().stream("x", {"callbacks": [handler]})
    next(stream)


def fork_under_load(children: str) -> None:
    """Fork while four threads make calls and one scrapes; each child makes a call and scrapes."""
    registry, stopped = CollectorRegistry(), threading.Event()
    handler = Eco2CallbackHandler(registry=registry)
    model = FakeModel()
    model.invoke("x", {"callbacks": [handler]})  # LangChain's first imports hold the import lock

    def work() -> None:
        number = 0
        while not stopped.is_set():
            number += 1
            model.invoke("x", {"callbacks": [handler], "metadata": {"tenant_id": f"t{number % 5}"}})

    def scrape() -> None:
        while not stopped.is_set():
            generate_latest(registry)

    threads = [threading.Thread(target=target, daemon=True) for target in (work, work, work, work, scrape)]
    for thread in threads:
        thread.start()
    ended = []
    for _ in range(int(children)):
        time.sleep(random.random() * 0.01)
        pid = os.fork()
        if pid == 0:
            signal.alarm(60)  # a child that hangs is killed
            model.invoke("x", {"callbacks": [handler], "metadata": {"tenant_id": "child"}})
            generate_latest(registry)
            os._exit(0)
        ended.append(os.waitpid(pid, 0)[1])
    stopped.set()
    print(json.dumps(ended))


def fork_amid_first_submit(kind: str, path: str) -> None:
    """Fork while another thread starts the thread of a sink's queue; the child's record reaches the sink too."""
    from eco2_callbacks import LedgerSink

    begun, may_go_on = threading.Event(), threading.Event()
    make_thread = threading.Thread.__init__

    def make_late(thread: threading.Thread, *args: Any, **kwargs: Any) -> None:
        if str(kwargs.get("name")).startswith("eco2-sink" if kind == "queue" else "eco2-ledger"):
            begun.set()  # the queue's lock is held
            may_go_on.wait()
        make_thread(thread, *args, **kwargs)

    sink = File(path) if kind == "queue" else LedgerSink(path)
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink])
    caller = threading.Thread(target=FakeModel().invoke, args=("x", {"callbacks": [handler]}))
    threading.Thread.__init__ = make_late  # type: ignore[method-assign]
    caller.start()
    begun.wait()
    if (pid := os.fork()) == 0:
        signal.alarm(120)  # a child that hangs is killed
        threading.Thread.__init__ = make_thread  # type: ignore[method-assign]
        FakeModel().invoke("x", {"callbacks": [handler]})
        handler.close()
        os._exit(0)
    may_go_on.set()
    caller.join()
    handler.close()
    print(os.waitpid(pid, 0)[1])


def interrupts(count: str) -> None:
    """Interrupt the main thread at random moments while it makes calls and scrapes."""
    registry, records = CollectorRegistry(), Records()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    model, seen, rng = FakeModel(), 0, random.Random(1)
    model.invoke("x", {"callbacks": [handler]})  # an interrupted first import of LangChain stays broken
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    while seen < int(count):
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.001, 0.03))
                while True:
                    model.invoke("x", {"callbacks": [handler]})
                    if len(records.all) % 50 == 0:
                        generate_latest(registry)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            seen += 1
    handler.close()
    counted, lost = exposed(registry, "llm_calls_total"), exposed(registry, "eco2_callbacks_errors_total")
    print(json.dumps({"records": len(records.calls), "counted": counted, "lost": lost}))


def children(path: str) -> None:
    """Make calls in children of multiprocessing, of a process pool, and of a fork that ends by sys.exit."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[File(path)])
    globals()["handler"] = handler
    _call()
    handler.flush()
    processes = [FORK.Process(target=_call) for _ in range(5)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with ProcessPoolExecutor(2, mp_context=FORK) as pool:
        list(pool.map(_call, range(10)))
    pid = os.fork()
    if pid == 0:
        _call()
        _call()
        sys.exit(0)
    os.waitpid(pid, 0)
    handler.close()


def _call(_: object = None) -> None:
    FakeModel().invoke("x", {"callbacks": [globals()["handler"]]})


def imported_twice() -> None:
    """Make a handler after the package was reloaded, and again after it was imported a second time."""
    import importlib

    Eco2CallbackHandler()
    names = [name for name in sys.modules if name.startswith("eco2_callbacks")]
    for name in names:
        importlib.reload(sys.modules[name])
    sys.modules["eco2_callbacks"].Eco2CallbackHandler()
    for name in names:
        del sys.modules[name]
    importlib.import_module("eco2_callbacks").Eco2CallbackHandler()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
