"""What goes wrong around a ledger: nothing is lost, nothing is doubled, and the application never waits."""

from __future__ import annotations

import logging
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, LedgerSink, TokenUsage
from eco2_callbacks.ledger import Period, backend_of, forget_user, make_report, read_status
from tests.support.fake_model import COST, FakeModel
from tests.support.ledger_records import call, count, one_request, query
from tests.support.record_sink import exposed
from tests.support.tcp_proxy import TcpProxy

ROOT = Path(__file__).parents[2]
_MAX_WAIT_SECONDS = 120.0
_NOVEMBER = Period.parse("2026-11-01", "2026-11-30", "UTC")


class Losses:
    """Counts what a ledger stores and loses."""

    def __init__(self) -> None:
        self.stored = 0
        self.lost: dict[str, int] = {}

    def on_stored(self, backend: str, records: int) -> None:
        self.stored += records

    def on_lost(self, backend: str, records: int, reason: str) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + records

    def on_failure(self) -> None:
        self.lost["failure"] = self.lost.get("failure", 0) + 1


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


def _through(proxy: TcpProxy, url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.port}", f":{proxy.port}")))


@contextmanager
def _proxied(url: str) -> Iterator[tuple[TcpProxy, str]]:
    port = urlsplit(url).port
    assert port is not None
    with TcpProxy(port) as proxy:
        yield proxy, _through(proxy, url)


def test_records_wait_in_the_spool_while_the_backend_is_down(server_url: str) -> None:
    """A backend that goes away gets everything when it is back, and ``lag_seconds`` shows the rest meanwhile."""
    with _proxied(server_url) as (proxy, url), LedgerSink(url) as sink:
        sink.emit(call())
        assert sink.flush(_MAX_WAIT_SECONDS)

        proxy.refuses = True
        proxy.cut_all()
        for _ in range(20):
            sink.emit(call())
        assert not sink.flush(0.3)
        assert sink.lag_seconds() > 0
        proxy.refuses = False

        assert sink.flush(_MAX_WAIT_SECONDS)
        assert sink.lag_seconds() == 0
    assert count(server_url, "calls") == 21


def test_a_batch_that_is_cut_in_the_middle_is_stored_once(server_url: str) -> None:
    """A connection that breaks while rows are sent is made again, and no row is lost or doubled."""
    with _proxied(server_url) as (proxy, url), LedgerSink(url) as sink:
        sink.emit(call())
        assert sink.flush(_MAX_WAIT_SECONDS)

        proxy.cut_after = 20_000
        proxy.cut_all()
        for _ in range(300):
            sink.emit(call())
        _wait_until(lambda: proxy.cuts > 0)
        proxy.cut_after = None

        assert sink.flush(_MAX_WAIT_SECONDS)
    assert count(server_url, "calls") == count(server_url, "ratings") == 301


def test_a_new_process_ships_what_the_last_one_left(server_url: str) -> None:
    """A spool that was full when its process ended is emptied by the next one."""
    with _proxied(server_url) as (proxy, url):
        with LedgerSink(url) as first:
            first.emit(call())
            assert first.flush(_MAX_WAIT_SECONDS)
            proxy.refuses = True
            proxy.cut_all()
            for _ in range(10):
                first.emit(call())
            first._writer.flush(_MAX_WAIT_SECONDS)
            # As at the end of a process that has no time: what is written stays.
            first._store._shipper._closing.set()  # type: ignore[union-attr]
        backend = backend_of(url)
        assert count(server_url, "calls") == 1
        proxy.refuses = False
        assert read_status(backend).spooled_records == 10
        backend.close()

        with LedgerSink(url) as second:
            assert second.flush(_MAX_WAIT_SECONDS)
    assert count(server_url, "calls") == 11


def test_two_processes_share_one_spool(server_url: str) -> None:
    """Two processes that write to one spool at once lose and double nothing."""
    program = (
        "import sys\n"
        "from eco2_callbacks import LedgerSink\n"
        "from tests.support.ledger_records import call\n"
        "with LedgerSink(sys.argv[1]) as sink:\n"
        "    for _ in range(200): sink.emit(call())\n"
        f"    assert sink.flush({_MAX_WAIT_SECONDS})\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", program, server_url], cwd=ROOT) for _ in range(2)]

    assert [each.wait() for each in both] == [0, 0]
    assert count(server_url, "calls") == count(server_url, "ratings") == 400


def test_a_server_that_is_away_at_the_start_can_be_waited_for(postgres: Any) -> None:
    """With ``needs_backend=False`` records wait in the spool for a server that is not there yet."""
    url = postgres.new_database()
    with _proxied(url) as (proxy, through):
        proxy.refuses = True
        with LedgerSink(through, needs_backend=False) as sink:
            sink.emit(call())
            assert not sink.flush(0.2)
            proxy.refuses = False
            assert sink.flush(_MAX_WAIT_SECONDS)
    assert count(url, "calls") == 1


@pytest.mark.slow
def test_a_full_spool_counts_what_it_cannot_keep(postgres: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond ``max_spool_bytes`` records are lost as ``overflow``, counted, and logged once."""
    losses = Losses()
    url = postgres.new_database()
    with _proxied(url) as (proxy, through), LedgerSink(through, max_spool_bytes=60_000) as sink:
        sink.watch(losses)
        proxy.refuses = True
        proxy.cut_all()
        for _ in range(60):
            sink.emit(call())
            sink._writer.flush(_MAX_WAIT_SECONDS)
        assert losses.lost["overflow"] > 0
        proxy.refuses = False
        assert sink.flush(_MAX_WAIT_SECONDS)
    assert count(url, "calls") == 60 - losses.lost["overflow"] == losses.stored
    assert len([record for record in caplog.records if "lost" in record.message]) == 1


def test_a_corrupt_spool_is_moved_aside_and_named(postgres: Any, spool: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A spool that is no database any more is kept under another name, and a new one is begun."""
    url = postgres.new_database()
    with LedgerSink(url) as sink:
        sink.emit(call())
        assert sink.flush(_MAX_WAIT_SECONDS)
    (path,) = spool.glob("postgres-*.spool")
    path.write_bytes(b"no database" * 1000)

    losses = Losses()
    with LedgerSink(url) as sink:
        sink.watch(losses)
        sink.emit(call())
        assert sink.flush(_MAX_WAIT_SECONDS)

    (aside,) = spool.glob("*.corrupt-*")
    assert str(aside) in caplog.text
    assert count(url, "calls") == 2


def test_a_corrupt_ledger_file_is_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A ledger file that is damaged while it is used is kept under another name; the loss is counted."""
    path = tmp_path / "ledger.db"
    losses = Losses()
    with LedgerSink(path) as sink:
        sink.watch(losses)
        sink.emit(call())
        assert sink.flush()
        sink._store.close(1)
        path.write_bytes(b"no database" * 5000)
        sink.emit(call())
        assert sink.flush()

    (aside,) = tmp_path.glob("*.corrupt-*")
    assert str(aside) in caplog.text
    assert losses.lost == {"corrupt": 1}
    assert count(path, "calls") == 1


def test_a_full_disk_loses_only_what_memory_cannot_hold(tmp_path: Path) -> None:
    """While a file cannot grow records wait in memory; beyond its bound they are lost as ``disk_full``."""
    program = (
        "import resource, signal, sys, time\n"
        "from eco2_callbacks import LedgerSink\n"
        "from tests.support.ledger_records import call\n"
        "from tests.ledger.test_faults import Losses\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "losses = Losses()\n"
        "sink = LedgerSink(sys.argv[1], max_waiting=50)\n"
        "sink.watch(losses)\n"
        "for _ in range(20): sink.emit(call())\n"
        "assert sink.flush(60)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))\n"
        "sink.emit(call())\n"
        "while sink._writer._fault != 'disk_full': time.sleep(0.01)\n"
        "while not losses.lost: sink.emit(call())\n"
        "assert set(losses.lost) == {'disk_full'}, losses.lost\n"
        "held = losses.stored\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "assert sink.flush(60)\n"
        "sink.close()\n"
        "assert losses.stored > held\n"
        "print(losses.stored)\n"
    )
    path = tmp_path / "ledger.db"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert count(path, "calls") == int(done.stdout)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_forked_child_writes_its_own_records(tmp_path: Path) -> None:
    """Parent and child go on with one ledger; the parent's waiting records are written once."""
    program = (
        "import os, sys\n"
        "from eco2_callbacks import LedgerSink\n"
        "from tests.support.ledger_records import call\n"
        "sink = LedgerSink(sys.argv[1])\n"
        "for _ in range(30): sink.emit(call())\n"
        "pid = os.fork()\n"
        "for _ in range(20): sink.emit(call())\n"
        "sink.close()\n"
        "if pid == 0: os._exit(0)\n"
        "assert os.waitpid(pid, 0)[1] == 0\n"
    )
    path = tmp_path / "ledger.db"

    subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=True)

    assert count(path, "calls") == 70


@pytest.mark.parametrize("kind", ["file", "spool"])
def test_forks_amid_writes_lose_no_record(tmp_path: Path, postgres: Any, kind: str) -> None:
    """A fork in the middle of a transaction leaves no lock behind, and no log that the parent has removed."""
    program = (
        "import os, signal, sys, threading\n"
        "from eco2_callbacks import LedgerSink\n"
        "from tests.support.ledger_records import call\n"
        "sink = LedgerSink(sys.argv[1], spool=sys.argv[2] or None)\n"
        "done = threading.Event()\n"
        "def write():\n"
        "    for _ in range(400): sink.emit(call()); done.wait(0.001)\n"
        "thread = threading.Thread(target=write); thread.start()\n"
        "children = []\n"
        "for _ in range(12):\n"
        "    sink.emit(call()); done.wait(0.02)\n"
        "    if (pid := os.fork()) == 0:\n"
        "        signal.alarm(300)\n"  # a child that hangs is killed
        "        for _ in range(5): sink.emit(call())\n"
        "        sink.close(); os._exit(0)\n"
        "    children.append(pid)\n"
        "thread.join(); sink.close()\n"
        "assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 12\n"
    )
    url = str(tmp_path / "ledger.db") if kind == "file" else postgres.new_database()
    folder = "" if kind == "file" else str(tmp_path / "spool")

    subprocess.run([sys.executable, "-c", program, url, folder], cwd=ROOT, check=True)
    if kind == "spool":
        with LedgerSink(url, spool=folder) as sink:
            assert sink.flush(_MAX_WAIT_SECONDS)

    assert count(url, "calls") == 400 + 12 + 12 * 5


def test_the_end_of_a_process_writes_what_waits(ledger_url: str) -> None:
    """A process that ends without ``close()`` leaves nothing behind."""
    program = (
        "import sys\n"
        "from eco2_callbacks import LedgerSink\n"
        "from tests.support.ledger_records import call\n"
        "sink = LedgerSink(sys.argv[1])\n"
        "for _ in range(50): sink.emit(call())\n"
    )

    subprocess.run([sys.executable, "-c", program, ledger_url], cwd=ROOT, check=True)
    if "://" in ledger_url:
        with LedgerSink(ledger_url) as sink:
            assert sink.flush(_MAX_WAIT_SECONDS)

    assert count(ledger_url, "calls") == 50


def test_forgetting_a_user_reaches_the_spool(postgres: Any, spool: Path) -> None:
    """Records that wait on this machine lose the user's ids too, in the file's every byte."""
    url = postgres.new_database()
    with _proxied(url) as (proxy, through):
        with LedgerSink(through) as sink:
            proxy.refuses = True
            proxy.cut_all()
            for record in one_request(user_id="mallory", session_id="s-mallory"):
                sink.emit(record)
            sink._writer.flush(_MAX_WAIT_SECONDS)
            sink._store._shipper._closing.set()  # type: ignore[union-attr]
        proxy.refuses = False
        backend = backend_of(through)
        forget_user(backend, "mallory")
        backend.close()
        assert b"mallory" not in b"".join(path.read_bytes() for path in spool.iterdir() if path.is_file())

        with LedgerSink(through) as sink:
            assert sink.flush(_MAX_WAIT_SECONDS)
    assert query(url, "SELECT user_id, session_id FROM calls") == [(None, None)]


def test_a_ledgers_metrics_appear_with_the_ledger(tmp_path: Path) -> None:
    """The families are exposed once a ledger is configured, with every reason at 0."""
    without, registry = CollectorRegistry(), CollectorRegistry()
    Eco2CallbackHandler(registry=without).close()
    with Eco2CallbackHandler(registry=registry, ledger=tmp_path / "ledger.db") as handler:
        FakeModel().invoke("hello", {"callbacks": [handler]})
        handler.flush()

        assert not [family for family in without.collect() if family.name.startswith("ledger_")]
        assert exposed(registry, "ledger_rows_total") == 1
        assert exposed(registry, "ledger_lag_seconds") == 0
        reasons = {
            sample.labels["reason"]: sample.value
            for family in registry.collect()
            for sample in family.samples
            if sample.name == "ledger_lost_rows_total"
        }
    assert reasons == {"overflow": 0, "disk_full": 0, "corrupt": 0}


def test_the_environment_names_the_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ECO2_LEDGER`` turns the ledger on without a change of code."""
    path = tmp_path / "ledger.db"
    monkeypatch.setenv("ECO2_LEDGER", str(path))
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        FakeModel().invoke("hello", {"callbacks": [handler]})

    backend = backend_of(path)
    now = make_report(backend, ["provider"], Period.parse("1d", None, "UTC"))
    backend.close()
    assert [(group.key, group.figures.cost) for group in now.groups] == [(("openai",), COST)]


def test_no_ledger_loads_no_database_library() -> None:
    """An application without a ledger imports neither SQLAlchemy nor Alembic, typer or rich."""
    program = (
        "import sys, eco2_callbacks\n"
        "from prometheus_client import CollectorRegistry\n"
        "eco2_callbacks.Eco2CallbackHandler(registry=CollectorRegistry())\n"
        "heavy = {'sqlalchemy', 'alembic', 'typer', 'rich', 'psycopg', 'clickhouse_connect'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout == "[]\n"


def test_a_lost_record_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A closed ledger counts what still comes, and says so once."""
    losses = Losses()
    sink = LedgerSink(tmp_path / "ledger.db")
    sink.watch(losses)
    sink.close()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            sink.emit(call())

    assert losses.lost == {"overflow": 3}
    # The migration's own line names the folder of this test.
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert os.path.exists(tmp_path / "ledger.db")


@pytest.mark.parametrize(
    "about",
    [
        {"duration_seconds": float("nan")},
        {"usage": TokenUsage(input_tokens=2**70)},
        {"cost": Cost(input_usd=Decimal(10**8))},
        {"started_at": datetime(1, 1, 1, tzinfo=UTC)},
    ],
    ids=["duration", "tokens", "dollars", "year 1"],
)
def test_a_record_that_no_row_can_hold_is_counted_and_holds_nothing_back(tmp_path: Path, about: dict[str, Any]) -> None:
    """An impossible number in one record is a failure of that record; the next one is stored."""
    losses = Losses()
    with LedgerSink(tmp_path / "ledger.db") as sink:
        sink.watch(losses)
        sink.add(msgspec.structs.replace(call(), **about))
        sink.add(call())
        assert sink.flush()

    assert losses.lost == {"failure": 1, "corrupt": 1}
    assert count(tmp_path / "ledger.db", "calls") == count(tmp_path / "ledger.db", "ratings") == 1


@pytest.mark.slow
def test_processes_that_begin_at_once_make_one_ledger(server_url: str) -> None:
    """ClickHouse has no lock: a process that meets another one's half-made schema waits for it."""
    program = "import sys\nfrom eco2_callbacks import LedgerSink\nLedgerSink(sys.argv[1]).close()"
    starts = [subprocess.Popen([sys.executable, "-c", program, server_url], cwd=ROOT) for _ in range(4)]

    assert [each.wait() for each in starts] == [0] * 4
    assert count(server_url, "calls") == 0
