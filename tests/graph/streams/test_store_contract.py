"""The contract of job stores, for the one in the process and the one in Redis."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from graph.streams import (
    CANCELLED,
    START,
    Acceptance,
    Claim,
    JobNotFoundError,
    JobStore,
    NewJob,
    Position,
    RunSpending,
    StreamEvent,
    figures_of,
    follow,
)
from tests.support.spending import spending

ACCEPTED_AT = datetime(2026, 11, 29, 10, tzinfo=UTC)


def new_job(job_id: str = "j", **fields: Any) -> NewJob:
    return NewJob(**{"job_id": job_id, "tenant_id": "acme", "user_id": "u", "accepted_at": ACCEPTED_AT} | fields)


def token(run: int, seq: int, text: str) -> StreamEvent:
    return StreamEvent(Position(run, seq), "token", {"node": "answer", "text": text})


def done(run: int, seq: int, answer: str) -> StreamEvent:
    return StreamEvent(Position(run, seq), "done", {"answer": answer, "usd": "0.5"})


async def claim(store: JobStore, job: NewJob, owner: str = "w1", **options: Any) -> Claim:
    defaults = {"alone": False, "lease_seconds": 60.0, "max_shared_crashes": 1}
    return await store.claim(job, owner=owner, **defaults | options)


async def append(store: JobStore, run: int, *events: StreamEvent, owner: str = "w1", **options: Any) -> Any:
    return await store.append(new_job(), run, events, owner=owner, **{"lease_seconds": 60.0} | options)


async def finish(store: JobStore, run: int, *events: StreamEvent, owner: str = "w1", **options: Any) -> Any:
    return await append(store, run, *events, owner=owner, status="done", **options)


async def read_all(store: JobStore) -> list[StreamEvent]:
    return list(await store.read("j", START, wait_seconds=0))


async def test_a_job_from_its_question_to_its_answer(store: JobStore) -> None:
    """Events come back in order with what was written, and the state has the result and the cost."""
    assert await store.accept(new_job()) == Acceptance(outcome="accepted", job_id="j")
    await store.mark_published("j")
    claimed = await claim(store, new_job())
    written = await append(store, 1, token(1, 1, "안녕"), token(1, 2, "!\n"), spending=spending(1, "0.25"))
    await finish(store, 1, done(1, 3, "안녕!\n"), spending=spending(1, "0.5"))

    assert (claimed.outcome, claimed.run, claimed.accepted_at) == ("started", 1, ACCEPTED_AT)
    assert (written.outcome, written.last, written.cancelled) == ("ok", 2, False)
    events = await read_all(store)
    assert [str(event.position) for event in events] == ["0-1", "1-0", "1-1", "1-2", "1-3"]
    assert [event.kind for event in events] == ["queued", "started", "token", "token", "done"]
    assert "".join(event.text for event in events) == "안녕!\n"
    state = await store.state("j")
    assert (state.status, state.run, state.published, state.trace_id) == ("done", 1, True, "t1")
    assert (state.tenant_id, state.user_id, state.accepted_at) == ("acme", "u", ACCEPTED_AT)
    assert (state.result["answer"], list(state.runs)) == ("안녕!\n", [spending(1, "0.5")])


async def test_an_unknown_job_is_not_found(store: JobStore) -> None:
    """Reading its state, its snapshot, and cancelling it all say so."""
    event = StreamEvent(START, "error", {"type": "cancelled"})
    for call in (
        store.state("j"),
        store.snapshot("j"),
        store.cancel("j", event),
        store.reopen("j", accepted_at=ACCEPTED_AT),
    ):
        with pytest.raises(JobNotFoundError):
            await call
    assert list(await store.read("j", START, wait_seconds=0)) == []


async def test_an_idempotency_key_belongs_to_one_question(store: JobStore) -> None:
    """A repeated request gets the first job, another question a conflict, another user his own job."""
    first = new_job("a", idempotency_key="k", digest="1")
    await store.accept(first)
    await store.mark_published("a")

    repeated = await store.accept(new_job("b", idempotency_key="k", digest="1"))
    conflict = await store.accept(new_job("c", idempotency_key="k", digest="2"))
    stranger = await store.accept(new_job("d", idempotency_key="k", digest="1", user_id="v"))

    assert (repeated.outcome, repeated.job_id, repeated.published) == ("repeated", "a", True)
    assert conflict.outcome == "conflict"
    assert stranger.outcome == "accepted"
    with pytest.raises(JobNotFoundError):
        await store.state("b")


async def test_a_withdrawn_job_leaves_no_trace(store: JobStore) -> None:
    """Its key is free again, and it counts no longer against its tenant."""
    job = new_job("a", idempotency_key="k", digest="1", max_active=1)
    await store.accept(job)

    await store.withdraw(job)
    await store.withdraw(job)
    await store.mark_published("a")

    again = new_job("b", idempotency_key="k", digest="2", max_active=1)
    assert (await store.accept(again)).outcome == "accepted"
    with pytest.raises(JobNotFoundError):
        await store.state("a")


async def test_a_job_that_another_has_taken_up_is_not_withdrawn(store: JobStore) -> None:
    """A repeated request hands it to the queue too, the queue has it all the same, or a worker runs it."""
    first = [new_job(name, idempotency_key=name, digest="1") for name in "abc"]
    for job in first:
        await store.accept(job)
    await store.accept(new_job("d", idempotency_key="a", digest="1"))
    await store.mark_published("b")
    await claim(store, first[2])

    for job in first:
        await store.withdraw(job)
    again = [await store.accept(new_job("e", idempotency_key=name, digest="1")) for name in "abc"]

    assert [(one.outcome, one.job_id, one.published) for one in again] == [
        ("repeated", "a", False),
        ("repeated", "b", True),
        ("repeated", "c", True),
    ]


async def test_a_question_that_is_accepted_twice_can_be_withdrawn(store: JobStore) -> None:
    """A request that got no reply from the store sends it again: it is still the only one."""
    job = new_job("a", idempotency_key="k", digest="1")
    await store.accept(job)
    await store.accept(job)

    await store.withdraw(job)

    assert (await store.accept(new_job("b", idempotency_key="k", digest="2"))).outcome == "accepted"


async def test_a_tenant_has_a_bounded_number_of_unfinished_jobs(store: JobStore) -> None:
    """The one below the bound is accepted, the one above is not, and a finished one makes room."""
    assert (await store.accept(new_job("j", max_active=2))).outcome == "accepted"
    assert (await store.accept(new_job("b", max_active=2))).outcome == "accepted"
    assert (await store.accept(new_job("c", max_active=2))).outcome == "too_many"
    assert (await store.accept(new_job("c", max_active=2, tenant_id="other"))).outcome == "accepted"

    await claim(store, new_job())
    await finish(store, 1, done(1, 1, ""))

    assert (await store.accept(new_job("d", max_active=2))).outcome == "accepted"


async def test_one_run_at_a_time(store: JobStore) -> None:
    """A second claim is held while the first run is alive, and told that the job is finished after its end."""
    await store.accept(new_job())
    await claim(store, new_job())

    held = await claim(store, new_job(), "w2")
    await finish(store, 1, done(1, 1, "one"))
    finished = await claim(store, new_job(), "w2")

    assert (held.outcome, held.run) == ("held", 1)
    assert 0 < held.held_seconds <= 60
    assert finished.outcome == "finished"


async def test_a_claim_that_comes_twice_begins_one_run(store: JobStore) -> None:
    """A worker that got no reply claims again: it gets the same run, whose lease begins anew."""
    await store.accept(new_job())
    await claim(store, new_job(), "w1", lease_seconds=0, alone=True)
    await append(store, 1, owner="w1", lease_seconds=0, spending=spending(1, "0.5"))
    first = await claim(store, new_job(), "w2", lease_seconds=0, alone=True)

    again = await claim(store, new_job(), "w2", alone=True)
    other = await claim(store, new_job(), "w3")
    await finish(store, 2, done(2, 1, "one"), owner="w2")
    late = await claim(store, new_job(), "w2")

    assert (first.outcome, first.run, first.crashes, first.crashes_alone, first.dead_run) == ("started", 2, 1, 1, 1)
    assert again == first
    assert (other.outcome, other.run) == ("held", 2)
    assert late.outcome == "finished"
    assert [str(event.position) for event in await read_all(store)] == ["0-1", "2-0", "2-1"]


async def test_a_new_run_fences_the_old_one(store: JobStore) -> None:
    """Writes of the old run are refused, its tokens are gone, and its crash is counted."""
    await store.accept(new_job())
    await claim(store, new_job(), lease_seconds=0)
    await append(store, 1, token(1, 1, "old"), lease_seconds=0)

    second = await claim(store, new_job(), "w2")
    refused = await append(store, 1, token(1, 2, "ghost"))
    await append(store, 2, token(2, 1, "new"), owner="w2")

    assert (second.outcome, second.run, second.crashes, second.dead_run) == ("started", 2, 1, 1)
    assert refused.outcome == "fenced"
    assert [str(event.position) for event in await read_all(store)] == ["0-1", "2-0", "2-1"]
    assert (await store.snapshot("j")).answer == "new"


async def test_a_run_s_cost_is_the_job_s_whoever_owns_it(store: JobStore) -> None:
    """A run that lost its job still adds what its last calls cost: while the newer run is alive, and after its end."""
    await store.accept(new_job())
    await claim(store, new_job(), lease_seconds=0)
    await append(store, 1, token(1, 1, "old"), lease_seconds=0, spending=spending(1, "0.5", open_calls=1))

    second = await claim(store, new_job(), "w2")
    refused = await append(store, 1, token(1, 2, "ghost"), spending=spending(1, "0.75"))
    running = await store.state("j")
    await finish(store, 2, done(2, 1, "new"), owner="w2", spending=spending(2, "2"))
    await append(store, 1, spending=spending(1, "1"))
    ended = await store.state("j")

    assert list(second.runs) == [spending(1, "0.5", open_calls=1)]
    assert (refused.outcome, list(running.runs)) == ("fenced", [spending(1, "0.75")])
    assert sorted(ended.runs, key=lambda run: run.run) == [spending(1, "1"), spending(2, "2")]
    assert (figures_of(ended.runs)["usd"], ended.trace_id) == ("3", "t2")


async def test_an_outcome_without_a_run_has_the_cost_of_those_before(store: JobStore) -> None:
    """Handed back and then cancelled, a job's last event says what its runs have cost."""
    await store.accept(new_job())
    await claim(store, new_job())
    await store.hand_back("j", 1, owner="w1", spending=spending(1, "0.5"))

    state = await store.cancel("j", StreamEvent(START, "error", {"type": "cancelled"}))

    assert state.result == {"type": "cancelled", **figures_of([spending(1, "0.5")])}
    assert state.result["usd"] == "0.5"


async def test_a_lost_job_with_the_same_run_number_is_fenced_by_its_owner(store: JobStore) -> None:
    """A store that lost its data counts runs from 1 again; the old worker's run 1 is not the new one."""
    await claim(store, new_job(), "w2")

    assert (await append(store, 1, token(1, 1, "ghost"), owner="w1")).outcome == "fenced"


async def test_a_suspect_runs_alone(store: JobStore) -> None:
    """After two crashes beside others a job must run alone, and crashes alone are counted."""
    await store.accept(new_job())
    for run, crashes in ((1, 0), (2, 1)):
        started = await claim(store, new_job(), f"w{run}", lease_seconds=0)
        assert (started.outcome, started.run, started.crashes) == ("started", run, crashes)

    suspect = await claim(store, new_job(), "w3", lease_seconds=0)
    alone = await claim(store, new_job(), "w3", lease_seconds=0, alone=True)
    after = await claim(store, new_job(), "w4", lease_seconds=0, alone=True)

    assert (suspect.outcome, suspect.crashes) == ("suspect", 2)
    assert (alone.outcome, alone.run, alone.crashes, alone.crashes_alone) == ("started", 3, 2, 0)
    assert (after.run, after.crashes, after.crashes_alone) == (4, 3, 1)


async def test_a_job_handed_back_has_not_crashed(store: JobStore) -> None:
    """The next worker starts it at once, with what it has cost, and the old run writes nothing more."""
    await store.accept(new_job())
    await claim(store, new_job())
    await store.hand_back("j", 1, owner="w1", spending=spending(1, "0.25"))

    late = await append(store, 1, token(1, 1, "late"))
    second = await claim(store, new_job(), "w2")

    assert late.outcome == "fenced"
    assert (second.outcome, second.run, second.crashes, second.dead_run) == ("started", 2, 0, 0)
    assert list(second.runs) == [spending(1, "0.25")]


async def test_a_write_that_comes_twice_is_stored_once(store: JobStore) -> None:
    """A worker that got no answer sends its events again."""
    await store.accept(new_job())
    await claim(store, new_job())
    batch = [token(1, 1, "a"), token(1, 2, "b")]

    await append(store, 1, *batch)
    again = await append(store, 1, *batch, token(1, 3, "c"))
    await finish(store, 1, done(1, 4, "abc"))
    last = await finish(store, 1, done(1, 4, "abc"))

    assert (again.outcome, again.last, last.outcome) == ("ok", 3, "ok")
    assert [event.position.seq for event in await read_all(store)] == [1, 0, 1, 2, 3, 4]
    assert (await store.snapshot("j")).answer == "abc"


@pytest.mark.parametrize("older_run", [False, True], ids=["queued", "older_run"])
async def test_a_store_that_lost_a_claim_gets_its_run_again(store: JobStore, older_run: bool) -> None:
    """It has gone back to the time before the claim: no newer run owns the job, so its worker goes on with it."""
    job, run = new_job(idempotency_key="k", digest="1"), 2 if older_run else 1
    await store.accept(job)
    if older_run:
        await claim(store, job, "w0", lease_seconds=0)
        await append(store, 1, token(1, 1, "old"), owner="w0", spending=spending(1, "0.5"))

    lost = await append(store, run, token(run, 1, "new"), spending=spending(run, "0.25"))
    for _ in range(2):
        await store.restore(job, run, owner="w1", lease_seconds=60)
    await append(store, run, token(run, 1, "new"))
    older = await append(store, 1, token(1, 2, "ghost"), owner="w0")
    await finish(store, run, done(run, 2, "new"))
    await store.restore(job, run + 1, owner="w2", lease_seconds=60)
    ended = await append(store, run + 1, token(run + 1, 1, "ghost"), owner="w2")

    assert (lost.outcome, older.outcome, ended.outcome) == ("missing", "fenced", "fenced")
    state = await store.state("j")
    assert (state.status, state.run, state.accepted_at) == ("done", run, ACCEPTED_AT)
    assert [one.run for one in sorted(state.runs, key=lambda one: one.run)] == list(range(1, run + 1))
    assert (await store.snapshot("j")).answer == "new"
    assert [str(event.position) for event in await read_all(store)] == ["0-1", f"{run}-0", f"{run}-1", f"{run}-2"]
    assert (await store.accept(new_job("again", idempotency_key="k", digest="1"))).job_id == "j"


async def test_a_store_that_lost_events_says_where_to_go_on(store: JobStore) -> None:
    """Later events are refused with the last known one; a lost job can be created again."""
    await store.accept(new_job())
    await claim(store, new_job())
    await append(store, 1, token(1, 1, "a"))

    behind = await append(store, 1, token(1, 3, "c"))
    missing = await store.append(new_job("lost"), 4, [token(4, 1, "a")], owner="w1", lease_seconds=60)
    runs: list[RunSpending] = [spending(2, "0.5"), spending(3, "0.25")]
    await store.restore(new_job("lost"), 4, owner="w1", lease_seconds=60, runs=runs)
    restored = await store.append(new_job("lost"), 4, [token(4, 1, "a")], owner="w1", lease_seconds=60)

    assert (behind.outcome, behind.last) == ("behind", 1)
    assert missing.outcome == "missing"
    assert (restored.outcome, restored.last) == ("ok", 1)
    assert sorted((await store.state("lost")).runs, key=lambda run: run.run) == runs
    events = await store.read("lost", START, wait_seconds=0)
    assert [str(event.position) for event in events] == ["4-0", "4-1"]


async def test_cancelling(store: JobStore) -> None:
    """A queued job ends at once, a running one learns it with its next write, an ended one stays as it is."""
    event = StreamEvent(START, "error", {"type": "cancelled"})
    await store.accept(new_job("q"))
    await store.accept(new_job())
    await claim(store, new_job())

    queued = await store.cancel("q", event)
    running = await store.cancel("j", event)
    written = await append(store, 1)
    await finish(store, 1, done(1, 1, ""))
    ended = await store.cancel("j", event)

    assert (queued.status, queued.result["type"]) == ("cancelled", "cancelled")
    assert (await claim(store, new_job("q"))).outcome == "finished"
    assert (running.status, written.cancelled, ended.status) == ("running", True, "done")


async def test_a_job_cancelled_while_its_worker_dies_does_not_run_again(store: JobStore) -> None:
    """The next claim gives it its outcome, with what it has cost; a job that was handed back likewise."""
    for ending in ("dies", "hands_back"):
        job = new_job(ending)
        await store.accept(job)
        await claim(store, job, lease_seconds=60)
        assert (await store.cancel(ending, CANCELLED)).status == "running"
        lease_seconds = 0 if ending == "dies" else 60
        await store.append(job, 1, (), owner="w1", lease_seconds=lease_seconds, spending=spending(1, "0.5"))
        if ending == "hands_back":
            await store.hand_back(ending, 1, owner="w1")

        again = await claim(store, job, "w2")

        state = await store.state(ending)
        assert (again.outcome, state.status, state.run) == ("finished", "cancelled", 1)
        assert state.result == {**CANCELLED.data, **figures_of([spending(1, "0.5")])}
        (*_, last) = await store.read(ending, START, wait_seconds=0)
        assert (last.kind, str(last.position), last.data) == ("error", "1-1", state.result)


async def test_a_job_whose_worker_has_died_is_cancelled_at_once(store: JobStore) -> None:
    """No worker has to come first. The old one is fenced, should it wake up."""
    await store.accept(new_job())
    await claim(store, new_job(), lease_seconds=0)

    cancelled = await store.cancel("j", CANCELLED)
    woken = await append(store, 1)
    late = await append(store, 1, token(1, 1, "ghost"))

    assert cancelled.status == "cancelled"
    assert (woken.outcome, late.outcome) == ("fenced", "fenced")
    assert (await claim(store, new_job(), "w2")).outcome == "finished"


async def test_an_outcome_from_elsewhere_does_not_end_a_live_run(store: JobStore) -> None:
    """A message with the id of a running job changes nothing; when the run's lease is over it ends the job."""
    error = StreamEvent(START, "error", {"type": "malformed"})
    await store.accept(new_job())
    await claim(store, new_job())

    running = await store.finish(new_job(), "dead", error)
    written = await append(store, 1, token(1, 1, "on"), lease_seconds=0)
    dead = await store.finish(new_job(), "dead", error)

    assert (running.status, written.outcome, dead.status) == ("running", "ok", "dead")


async def test_a_job_that_was_never_accepted_gets_an_outcome(store: JobStore) -> None:
    """The reader of a malformed job finds its error; a second outcome changes nothing."""
    error = StreamEvent(START, "error", {"type": "malformed"})
    state = await store.finish(new_job(), "dead", error)
    again = await store.finish(new_job(), "error", error)

    assert (state.status, again.status, state.result["type"]) == ("dead", "dead", "malformed")
    (event,) = await read_all(store)
    assert (event.kind, event.is_last) == ("error", True)


async def test_a_dead_job_runs_again_after_it_was_reopened(store: JobStore) -> None:
    """Its crashes and its error are forgotten, its readers see the new run only, and it has waited from now on."""
    await store.accept(new_job())
    await claim(store, new_job(), lease_seconds=0)
    await store.finish(new_job(), "dead", StreamEvent(START, "error", {"type": "poison"}))

    await store.reopen("j", accepted_at=ACCEPTED_AT + timedelta(hours=2))
    again = await claim(store, new_job(), "w2")

    assert (again.outcome, again.run, again.crashes) == ("started", 2, 0)
    assert again.accepted_at == ACCEPTED_AT + timedelta(hours=2)
    assert [event.kind for event in await read_all(store)] == ["queued", "started"]


async def test_a_reader_waits_for_the_next_event(store: JobStore) -> None:
    """A read without events returns as soon as one is written, or with nothing after its time."""
    await store.accept(new_job())
    assert list(await store.read("j", Position(0, 1), wait_seconds=0.05)) == []

    reading = asyncio.create_task(store.read("j", Position(0, 1), wait_seconds=60))
    await asyncio.sleep(0)
    await claim(store, new_job())

    assert [event.kind for event in await reading] == ["started"]


async def test_a_stream_is_bounded_and_its_snapshot_is_not(store: JobStore) -> None:
    """The store keeps the last 20 events; the snapshot has the whole answer."""
    await store.accept(new_job())
    await claim(store, new_job())
    await append(store, 1, *[token(1, number, f"{number} ") for number in range(1, 31)])

    events = await read_all(store)
    snapshot = await store.snapshot("j")

    assert [event.position.seq for event in events] == list(range(11, 31))
    assert snapshot.answer == "".join(f"{number} " for number in range(1, 31))
    assert (snapshot.position, snapshot.status, snapshot.last_event) == (Position(1, 30), "running", None)


@pytest.mark.parametrize(
    ("after", "kinds", "recoveries"),
    [
        pytest.param(None, ["snapshot", "done"], [("snapshot", "success")], id="new_reader"),
        pytest.param(Position(1, 3), ["snapshot", "done"], [("snapshot", "success")], id="too_old"),
        pytest.param(Position(1, 9), ["snapshot", "done"], [("snapshot", "success")], id="one_too_old"),
        pytest.param(Position(1, 10), ["token"] * 20 + ["done"], [("catch_up", "success")], id="just_there"),
        pytest.param(Position(1, 28), ["token"] * 2 + ["done"], [("catch_up", "success")], id="recent"),
        pytest.param(Position(1, 30), ["done"], [("catch_up", "success")], id="up_to_date"),
        pytest.param(Position(1, 99), ["snapshot", "done"], [("snapshot", "success")], id="beyond"),
    ],
)
async def test_recovery(
    store: JobStore, after: Position | None, kinds: list[str], recoveries: list[tuple[str, str]]
) -> None:
    """A reader gets what it missed if all of that is there, else a snapshot; each recovery counts once."""
    await store.accept(new_job())
    await claim(store, new_job())
    await append(store, 1, *[token(1, number, f"{number} ") for number in range(1, 31)])
    counted: list[tuple[str, str]] = []
    seen: list[StreamEvent] = []

    async def read() -> None:
        events = follow(store, "j", after=after, on_recovery=lambda *pair: counted.append(pair))
        seen.extend([event async for event in events])

    reading = asyncio.create_task(read())
    while not counted:
        await asyncio.sleep(0.01)
    await finish(store, 1, done(1, 31, "all"))
    await reading

    assert [event.kind for event in seen] == kinds
    assert counted == recoveries
    if kinds[0] == "snapshot":
        assert seen[0].data["answer"] == "".join(f"{number} " for number in range(1, 31))


async def test_a_reader_that_has_everything_ends(store: JobStore) -> None:
    """Nobody waits for an event after the last one."""
    await store.accept(new_job())
    await claim(store, new_job())
    await finish(store, 1, done(1, 1, "x"))

    assert [event async for event in follow(store, "j", after=Position(1, 1))] == []
