"""What the servers write into the ledger: every run of a job, runs whose worker died, and the user's feedback."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import backend_of, read_traces
from graph.api import FeedbackSender
from graph.jobs import Delivery, Job
from graph.streams import MemoryJobStore, figures_of
from tests.support import fake_runtime
from tests.support.api_server import api_server
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records
from tests.support.spending import StoreOfOneWorker
from tests.support.worker_runs import read, running_worker


def requests_of(url: Path) -> list[tuple[str, str, int, Decimal]]:
    """Return trace id, status, number of model calls and cost of each request, in the order of their start."""
    with closing(sqlite3.connect(url)) as connection:
        rows = connection.execute(
            "SELECT trace_id, status, llm_calls, cost FROM requests ORDER BY started_at"
        ).fetchall()
    return [(trace_id, status, calls, Decimal(cost).scaleb(-12)) for trace_id, status, calls, cost in rows]


async def test_the_run_of_a_dead_worker_is_marked(tmp_path: Path, records: Records) -> None:
    """Both runs of the job are in the ledger: the dead one as an error with the calls that it had ended."""
    answering, url = asyncio.Event(), tmp_path / "eco2.db"

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        if not answering.is_set():
            await asyncio.Event().wait()
        return {}

    runtime, store, job = fake_runtime.runtime(tmp_path, router=router), MemoryJobStore(), Job(job_id="1", message="?")
    with LedgerSink(url) as ledger:
        async with running_worker(store, runtime=runtime, records=records, lease_seconds=1) as (worker, _):
            dying = asyncio.create_task(worker.run_job(job, Delivery()))
            while not records.calls:
                await asyncio.sleep(0.01)
            ledger.emit(records.call)  # what a ledger has of a worker that is killed now
            while (first := (await store.state("1")).trace_id) is None:
                await asyncio.sleep(0.01)
            dying.cancel()
            await asyncio.gather(dying, return_exceptions=True)
        answering.set()
        async with running_worker(store, runtime=runtime, ledger=ledger) as (worker, _):
            await worker.run_job(job, Delivery(count=1))
            await read(store)

    dead, answered = sorted(read_traces(backend_of(url), "1"), key=lambda trace: trace.trace_id != first)
    assert (dead.trace_id, dead.root.status) == (first, "error")
    assert answered.root.status == "success"
    assert answered.trace_id != first


async def test_a_worker_that_wakes_up_is_no_second_request(tmp_path: Path) -> None:
    """Taken over and marked as dead, a run ends after all: it is one request, and a job of two runs is two."""
    answering, runs, url = asyncio.Event(), 0, tmp_path / "eco2.db"

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        nonlocal runs
        runs += 1
        model = FakeModel(pause_seconds=3600 if runs == 1 else 0, on_pause=answering.set)
        return {"answer": (await model.ainvoke("x")).text}

    store, runtime, job = MemoryJobStore(), fake_runtime.runtime(tmp_path, answer=answer), Job(job_id="1", message="?")
    of_first: Any = StoreOfOneWorker(store)
    with LedgerSink(url) as ledger:
        first = running_worker(of_first, runtime=runtime, ledger=ledger, lease_seconds=1)
        async with first as (paused, _), running_worker(store, runtime=runtime, ledger=ledger) as (worker, _):
            lost = asyncio.create_task(paused.run_job(job, Delivery()))
            await answering.wait()
            while not figures_of((await store.state("1")).runs)["open_calls"]:
                await asyncio.sleep(0.01)
            of_first.goes_on.clear()
            await worker.run_job(job, Delivery(count=1))
            of_first.goes_on.set()
            await lost

    runs_of_job = sorted((await store.state("1")).runs, key=lambda run: run.run)
    rows = requests_of(url)
    assert [trace_id for trace_id, *_ in rows] == [run.trace_id for run in runs_of_job]
    (_, died, died_calls, died_usd), (_, status, calls, usd) = rows
    assert (died, died_calls, died_usd) == ("error", 4, 4 * COST)  # as far as the second worker knew
    assert (status, calls, usd) == ("success", 1, COST)


async def test_a_run_with_a_record_of_its_own_gets_no_mark(tmp_path: Path) -> None:
    """A worker that died before the outcome alone: one request, and the feedback reaches it."""
    url, store = tmp_path / "eco2.db", MemoryJobStore()
    runtime, job = fake_runtime.runtime(tmp_path), Job(job_id="1", message="?")
    dying: Any = StoreOfOneWorker(store, loses_outcomes=True)
    with LedgerSink(url) as ledger:
        async with running_worker(dying, runtime=runtime, ledger=ledger, lease_seconds=1) as (worker, _):
            died = asyncio.create_task(worker.run_job(job, Delivery()))
            await dying.outcome_lost.wait()
            died.cancel()
            await asyncio.gather(died, return_exceptions=True)
        async with running_worker(store, runtime=runtime, ledger=ledger) as (worker, _):
            await worker.run_job(job, Delivery(count=1))
        state = await store.state("1")
        assert await FeedbackSender(ledger=ledger).send(state, score=1.0, comment="") == ["ledger"]

    assert (state.run, state.status) == (2, "done")
    assert requests_of(url) == [(state.trace_id, "success", 5, 5 * COST)]
    with closing(sqlite3.connect(url)) as connection:
        assert connection.execute("SELECT trace_id FROM feedback").fetchall() == [(state.trace_id,)]


async def test_feedback_reaches_the_ledger(tmp_path: Path) -> None:
    """The score is a row of the answer's trace; the comment is content and is not stored."""
    url = tmp_path / "eco2.db"
    with LedgerSink(url) as ledger:
        async with api_server(tmp_path, feedback=FeedbackSender(ledger=ledger)) as server:
            job_id = await server.ask()
            await server.until_ended(job_id)
            sent = await server.client.post(
                f"/api/v1/chat/{job_id}/feedback", json={"score": 0.5, "comment": "비밀 의견"}
            )
            trace_id = (await server.store.state(job_id)).trace_id

    assert sent.json()["reached"] == ["ledger"]
    with closing(sqlite3.connect(url)) as connection:
        rows = connection.execute("SELECT score FROM feedback").fetchall()
        dump = "\n".join(connection.iterdump())
    assert [Decimal(str(score)) for (score,) in rows] == [Decimal("0.5")]
    assert trace_id is not None
    assert "비밀" not in dump


def test_a_ledger_that_cannot_be_opened_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server opens nothing else and exits with 2."""
    from graph.cli import main

    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ECO2_LEDGER", "mysql://hunter2@nowhere")

    assert main(["serve", "--port", "0", "--metrics-port", "0"], runtime=fake_runtime.runtime(tmp_path)) == 2

    assert "mysql" in (message := capsys.readouterr().err)
    assert "hunter2" not in message
