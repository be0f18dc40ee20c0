"""Jobs over TLS: real RabbitMQ and Redis that speak nothing else to the worker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from eco2_callbacks import BudgetRule, Budgets
from eco2_callbacks.budgets import read_states
from eco2_callbacks.errors import BudgetStoreError
from graph.cli import QUESTIONS
from graph.jobs import JobQueue, RabbitBroker
from graph.replay import replay
from graph.streams import JobStore, RedisJobStore, StoreUnavailableError, connect_redis
from tests.support.certificates import make_certificates
from tests.support.programs import free_port
from tests.support.rabbit_process import rabbit_process
from tests.support.redis_process import redis_process
from tests.support.worker_runs import GREETING, joined_tokens, read, recorded_answer, running_worker, submit

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Secured:
    """Addresses of two servers, without the file of the authority that signed their certificates."""

    redis_url: str
    amqp_url: str
    authority: Path
    other_authority: Path


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    made, other = make_certificates(folder / "own"), make_certificates(folder / "other")
    redis_port, amqp_port = free_port(), free_port()
    files = {"--tls-cert-file": made.certificate, "--tls-key-file": made.key, "--tls-ca-cert-file": made.authority}
    options = ["--tls-port", str(redis_port), "--tls-auth-clients", "no"]
    options += [part for name, path in files.items() for part in (name, str(path))]
    config = (
        f"listeners.ssl.1 = 127.0.0.1:{amqp_port}\n"
        f"ssl_options.cacertfile = {made.authority}\nssl_options.certfile = {made.certificate}\n"
        f"ssl_options.keyfile = {made.key}\nssl_options.verify = verify_none\n"
        "ssl_options.fail_if_no_peer_cert = false\n"
    )
    with redis_process(folder / "redis", *options), rabbit_process(folder / "rabbit", config):
        yield Secured(
            f"rediss://127.0.0.1:{redis_port}/0",
            f"amqps://guest:guest@127.0.0.1:{amqp_port}/?heartbeat=5",
            made.authority,
            other.authority,
        )


async def test_a_job_is_answered_over_tls(secured: Secured) -> None:
    """Queue, job state and stream go through ``amqps://`` and ``rediss://``, with the authority that the URLs name."""
    store: JobStore = RedisJobStore(connect_redis(f"{secured.redis_url}?ssl_ca_certs={secured.authority}"))
    queue = JobQueue(RabbitBroker(f"{secured.amqp_url}&cafile={secured.authority}"))
    with replay(GREETING):
        async with running_worker(store, queue):
            await submit(store, queue, message=QUESTIONS["greeting"])
            events = await read(store)
    await store.aclose()

    assert joined_tokens(events) == events[-1].data["answer"] == recorded_answer(GREETING)


async def test_a_server_of_another_authority_is_refused(secured: Secured) -> None:
    """Neither job nor password is sent to a server whose certificate is not signed by the named authority."""
    store = RedisJobStore(connect_redis(f"{secured.redis_url}?ssl_ca_certs={secured.other_authority}"))
    with pytest.raises(StoreUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        await store.state("1")
    await store.aclose()

    broker = RabbitBroker(f"{secured.amqp_url}&cafile={secured.other_authority}")
    with pytest.raises(OSError, match=r"CERTIFICATE_VERIFY_FAILED|certificate verify failed"):
        await broker.startup()
    await broker.shutdown()


def test_budgets_are_shared_over_tls(secured: Secured) -> None:
    """The store of the budgets takes ``rediss://`` as well, and checks the certificate."""
    rules = [BudgetRule(name="all", limit_usd="1")]  # type: ignore[arg-type]

    (state,) = read_states(Budgets(rules=rules, store=f"{secured.redis_url}?ssl_ca_certs={secured.authority}"))

    assert state.spent_usd == 0
    with pytest.raises(BudgetStoreError, match="CERTIFICATE_VERIFY_FAILED"):
        read_states(Budgets(rules=rules, store=f"{secured.redis_url}?ssl_ca_certs={secured.other_authority}"))
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(secured.redis_url.replace("rediss", "redis"), protocol=2).ping()
