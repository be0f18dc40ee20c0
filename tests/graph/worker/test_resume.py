"""A second run goes on where the first one stopped, with every checkpointer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from langgraph.checkpoint.base import empty_checkpoint
from prometheus_client import CollectorRegistry
from taskiq import InMemoryBroker

from graph.app import checkpoints
from graph.jobs import Delivery, Job, JobMetrics, JobQueue
from graph.runtime import Graph, Runtime
from graph.serving.watch import ProcessWatch
from graph.streams import MemoryJobStore
from tests.support import fake_runtime
from tests.support.database_servers import PostgresServer, postgres_server
from tests.support.record_sink import Records
from tests.support.worker_runs import joined_tokens, read, running_worker

NODES = ("intent", "router", "location", "web_search", "answer")
ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def database(postgres: PostgresServer) -> str:
    return postgres.new_database()


@pytest.fixture(params=["sqlite", "postgres"])
def saver(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set ECO2_CHECKPOINTS to a saver of each kind."""
    kind = request.param
    url = f"sqlite:///{tmp_path}/checkpoints.db" if kind == "sqlite" else request.getfixturevalue("database")
    monkeypatch.setenv("ECO2_CHECKPOINTS", url)


class CountedNodes:
    """The nodes of the small graph: each counts its runs, and one of them hangs or fails until it is repaired."""

    def __init__(self, hanging: str) -> None:
        self.ran: list[str] = []
        self.hanging: str | None = hanging

    def runtime(self, tmp_path: Path) -> Runtime:
        nodes = {name: self._counted(getattr(fake_runtime, name)) for name in NODES}

        @asynccontextmanager
        async def open_graph() -> AsyncIterator[Graph]:
            async with checkpoints() as checkpointer:
                self.checkpointer = checkpointer
                yield fake_runtime.build(checkpointer, **nodes)

        return replace(fake_runtime.runtime(tmp_path), open_graph=open_graph)

    async def until_stored(self, channel: str) -> None:
        """Wait until the newest checkpoint has a node's result, although its step has not ended."""
        while True:
            async for newest in self.checkpointer.alist(None, limit=1):
                if any(channel == written for _, written, _ in newest.pending_writes or ()):
                    return
            await asyncio.sleep(0.02)

    def _counted(self, node: Callable[..., Any]) -> Callable[..., Any]:
        async def run(state: fake_runtime.State) -> fake_runtime.State:
            self.ran.append(node.__name__)
            if self.hanging == node.__name__:
                await asyncio.Event().wait()
            result: fake_runtime.State = await node(state)
            return result

        return run


@pytest.mark.parametrize("hanging", ["location", "answer"])
async def test_finished_nodes_are_not_paid_again(saver: None, tmp_path: Path, records: Records, hanging: str) -> None:
    """The second run runs the node in which the first worker died, and those after it, and no other one."""
    nodes, store, job = CountedNodes(hanging), MemoryJobStore(), Job(job_id="1", message="안녕!", session_id="s")
    runtime = nodes.runtime(tmp_path)
    async with running_worker(store, runtime=runtime, lease_seconds=1) as (worker, _):
        dying = asyncio.create_task(worker.run_job(job, Delivery()))
        before = {"location": 4, "answer": 5}[hanging]  # the branches are in parallel
        while len(nodes.ran) < before:
            await asyncio.sleep(0.01)
        if hanging == "location":
            await nodes.until_stored("found")  # of the branch beside it
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    first, nodes.ran, nodes.hanging = nodes.ran, [], None

    async with running_worker(store, runtime=runtime, records=records) as (worker, _):
        assert await worker.run_job(job, Delivery(count=1)) == "ack"
        events = await read(store)

    assert sorted(first) == sorted(NODES if hanging == "answer" else NODES[:-1])
    assert nodes.ran == {"location": ["location", "answer"], "answer": ["answer"]}[hanging]
    assert len(records.calls) == {"location": 3, "answer": 1}[hanging]
    assert joined_tokens(events) == events[-1].data["answer"] == ANSWER
    assert (await store.state("1")).run == 2


async def test_a_dropped_connection_to_postgres_fails_no_later_job(
    postgres: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL closes the connections of an idle worker, as its restart does: the next job has another one."""
    url = postgres.new_database()
    monkeypatch.setenv("ECO2_CHECKPOINTS", url)
    nodes, store = CountedNodes(""), MemoryJobStore()
    async with running_worker(store, runtime=nodes.runtime(tmp_path)) as (worker, _):
        await worker.run_job(Job(job_id="before", message="안녕!"), Delivery())
        with psycopg.connect(url, autocommit=True) as connection:
            dropped = connection.execute(
                "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity "  # waits until it has ended
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            ).fetchall()
        await worker.run_job(Job(job_id="after", message="안녕!"), Delivery())

    assert dropped == [(True,)] * len(dropped) != []
    assert [(await store.state(job_id)).status for job_id in ("before", "after")] == ["done", "done"]


@pytest.mark.slow
async def test_a_worker_without_its_checkpoints_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    """Each job would fail: the probe says what is missing, and nothing once PostgreSQL answers again."""
    with postgres_server() as server:
        monkeypatch.setenv("ECO2_CHECKPOINTS", server.new_database())
        async with checkpoints() as checkpointer:
            queue, metrics = JobQueue(InMemoryBroker()), JobMetrics(registry)
            watch = ProcessWatch(MemoryJobStore(), queue, metrics, asyncio.Event(), checkpointer=checkpointer)
            watch.connected = True
            while await asyncio.to_thread(watch.ready):
                await asyncio.sleep(0.05)
            await asyncio.to_thread(server.stop)
            while not (await asyncio.to_thread(watch.ready)).startswith("ECO2_CHECKPOINTS does not answer: "):
                await asyncio.sleep(0.05)
            await asyncio.to_thread(server.start)
            while await asyncio.to_thread(watch.ready):
                await asyncio.sleep(0.05)


async def test_an_answer_whose_outcome_was_lost_is_not_paid_again(
    saver: None, tmp_path: Path, records: Records
) -> None:
    """A worker that died between the graph's end and the outcome: the second run only writes it."""
    nodes, store, job = CountedNodes(""), MemoryJobStore(), Job(job_id="1", message="안녕!")
    runtime = nodes.runtime(tmp_path)
    async with running_worker(store, runtime=runtime) as (worker, _):
        await worker.run_job(job, Delivery())
    nodes.ran, store = [], MemoryJobStore()
    await store.claim(job.described(), owner="dead", alone=False, lease_seconds=0, max_shared_crashes=1)

    async with running_worker(store, runtime=runtime, records=records) as (worker, _):
        assert await worker.run_job(job, Delivery(count=1)) == "ack"
        events = await read(store)

    assert (nodes.ran, records.all) == ([], [])
    assert joined_tokens(events) == events[-1].data["answer"] == ANSWER


async def test_a_job_that_the_store_has_forgotten_is_not_paid_again(saver: None, tmp_path: Path) -> None:
    """Its message comes again, so it goes on at its checkpoint, in what is its first run again."""
    nodes, job = CountedNodes("answer"), Job(job_id="forgotten", message="안녕!")
    runtime = nodes.runtime(tmp_path)
    async with running_worker(MemoryJobStore(), runtime=runtime) as (worker, _):
        dying = asyncio.create_task(worker.run_job(job, Delivery()))
        while "answer" not in nodes.ran:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
    nodes.ran, nodes.hanging, store = [], None, MemoryJobStore()

    async with running_worker(store, runtime=runtime) as (worker, _):
        await worker.run_job(job, Delivery(count=1))
        events = await read(store, "forgotten")

    assert nodes.ran == ["answer"]
    assert joined_tokens(events) == ANSWER


async def test_another_job_of_the_session_starts_a_new_turn(saver: None, tmp_path: Path) -> None:
    """Only a job's own checkpoint is taken up: the next question of the session is answered as a whole."""
    nodes, store = CountedNodes(""), MemoryJobStore()
    async with running_worker(store, runtime=nodes.runtime(tmp_path)) as (worker, _):
        await worker.run_job(Job(job_id="1", message="안녕!", session_id="s"), Delivery())
        nodes.ran = []
        second = Job(job_id="2", message="안녕!", session_id="s")
        await store.claim(second.described(), owner="dead", alone=False, lease_seconds=0, max_shared_crashes=1)
        await worker.run_job(second, Delivery(count=1))

    assert sorted(nodes.ran) == sorted(NODES)


async def test_a_checkpoint_of_the_input_alone_is_no_answer(saver: None, tmp_path: Path) -> None:
    """A worker that died while the question was stored: the second run answers it."""
    nodes, store, job = CountedNodes(""), MemoryJobStore(), Job(job_id="1", message="안녕!")
    async with checkpoints() as checkpointer:
        config: Any = {"configurable": {"thread_id": job.thread_id, "checkpoint_ns": ""}}
        checkpoint = empty_checkpoint()
        await checkpointer.aput(config, checkpoint, {"source": "input", "step": -1, "job_id": "1"}, {})  # type: ignore[typeddict-unknown-key]
    await store.claim(job.described(), owner="dead", alone=False, lease_seconds=0, max_shared_crashes=1)

    async with running_worker(store, runtime=nodes.runtime(tmp_path)) as (worker, _):
        await worker.run_job(job, Delivery(count=1))
        events = await read(store)

    assert sorted(nodes.ran) == sorted(NODES)
    assert joined_tokens(events) == ANSWER


async def test_a_step_whose_nodes_have_all_ended_is_no_end(saver: None, tmp_path: Path) -> None:
    """A worker that died between a node's end and the next step: the second run goes on with the next step."""
    nodes, store, job = CountedNodes(""), MemoryJobStore(), Job(job_id="1", message="안녕!")
    runtime = nodes.runtime(tmp_path)
    async with runtime.open_graph() as graph:
        config: Any = {"configurable": {"thread_id": job.thread_id}, "metadata": {"job_id": "1"}}
        await graph.ainvoke({"message": "안녕!"}, config, interrupt_before=["router"])
        saved = await graph.aget_state(config)
        (task,) = saved.tasks
        await graph.checkpointer.aput_writes(saved.config, [("branch:to:location", None)], task.id)  # type: ignore[union-attr]
        assert (await graph.aget_state(config)).next == ()
    nodes.ran = []
    await store.claim(job.described(), owner="dead", alone=False, lease_seconds=0, max_shared_crashes=1)

    async with running_worker(store, runtime=runtime) as (worker, _):
        await worker.run_job(job, Delivery(count=1))
        events = await read(store)

    assert nodes.ran[:1] == ["location"]
    assert events[-1].kind == "done"


async def test_a_cancelled_run_leaves_no_graph_running(tmp_path: Path) -> None:
    """Whoever cancels a job's run ends its graph as well, at whichever node it stands."""
    entered, go_on, ran = asyncio.Event(), asyncio.Event(), []

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        entered.set()
        await go_on.wait()
        return {}

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        ran.append("answer")
        return {}

    runtime = fake_runtime.runtime(tmp_path, router=router, answer=answer)
    async with running_worker(MemoryJobStore(), runtime=runtime) as (worker, _):
        run = asyncio.create_task(worker.run_job(Job(job_id="1", message="?"), Delivery()))
        await entered.wait()
        others = asyncio.all_tasks()
        run.cancel()
        await asyncio.gather(run, return_exceptions=True)
        go_on.set()
        graphs = [task for task in others if "_answer" in getattr(task.get_coro(), "__qualname__", "")]
        await asyncio.gather(*graphs, return_exceptions=True)

    assert [task.cancelled() for task in graphs] == [True]
    assert not ran
