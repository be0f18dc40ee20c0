"""Attaches the handler to the graph. No other module does."""

from __future__ import annotations

import atexit
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime
from functools import cache, partial
from types import MappingProxyType

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph.state import CompiledStateGraph
from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, Feature, LedgerSink, Settings, Sink
from graph.build import build_graph
from graph.errors import GraphConfigError
from graph.routing import BRANCHES
from graph.state import Intent, State

__all__ = ["AGENT_NAME", "FEATURES", "FEEDBACK", "SUBAGENTS", "checkpoints", "make_graph", "make_handler", "open_graph"]

AGENT_NAME = "eco2"
# Of one series of attempts, whose pauses double: after a long outage none lasts minutes.
_RECONNECT_SECONDS = 30.0
_utc_now = partial(datetime.now, UTC)
SUBAGENTS: tuple[str, ...] = tuple(sorted({node for nodes in BRANCHES.values() for node in nodes}))
FEEDBACK: Mapping[str, Mapping[str, str]] = MappingProxyType({"feedback": {"rag_quality": "scores.rag_quality"}})


def _feature(intent: Intent, name: str, description: str) -> Feature:
    nodes = BRANCHES[intent]
    return Feature(feature=name, subagents=nodes, parallel=len(nodes) > 1, description=description)


FEATURES: Mapping[str, Feature] = MappingProxyType(
    {
        "waste": _feature("waste", "rag", "버리는 방법을 지침에서 찾고, 모자라면 웹에서 찾습니다."),
        "bulk_waste": _feature("bulk_waste", "bulk_waste", "대형 폐기물의 수수료와 신고 방법을 알려 줍니다."),
        "character": _feature("character", "character", "쓰레기를 대표하는 캐릭터를 뽑습니다."),
        "location": _feature("location", "location", "찾아갈 장소를 지도와 웹에서 찾습니다."),
        "web_search": _feature("web_search", "web_search", "최근 소식과 제도를 웹에서 찾습니다."),
        "recyclable_price": _feature("recyclable_price", "recyclable_price", "재활용 자원의 시세를 알려 줍니다."),
        "collection_point": _feature("collection_point", "collection_point", "수거·회수처를 찾습니다."),
        "image_generation": _feature("image_generation", "image_generation", "그림을 그립니다."),
        "general": _feature("general", "chat", "잡담과 환경 상식에 답합니다."),
        "greeting": _feature("greeting", "chat", "인사에 답합니다."),
    }
)


def make_handler(
    settings: Settings,
    *,
    sinks: Sequence[Sink] = (),
    registry: CollectorRegistry = REGISTRY,
    ledger: LedgerSink | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = _utc_now,
) -> Eco2CallbackHandler:
    """Return the handler for this graph. The caller closes it, and its ledger."""
    return Eco2CallbackHandler(
        registry=registry,
        prices=settings.prices,
        sinks=sinks,
        ledger=ledger,
        agent_name=AGENT_NAME,
        subagents=SUBAGENTS,
        features=FEATURES,
        feedback=FEEDBACK,
        clock=clock,
        now=now,
    )


def make_graph(config: RunnableConfig) -> CompiledStateGraph[State, None, State, State]:  # noqa: ARG001 - the server passes it
    """Return the graph with the handler attached, for ``langgraph.json``. The server stores the conversations."""
    return _graph_with_handler()


@cache  # the server calls make_graph for every request
def _graph_with_handler() -> CompiledStateGraph[State, None, State, State]:
    handler = make_handler(Settings.from_env())
    atexit.register(handler.close)
    return build_graph().with_config(callbacks=[handler])


@asynccontextmanager
async def open_graph() -> AsyncIterator[CompiledStateGraph[State, None, State, State]]:
    """Yield the graph with the checkpointer of ``ECO2_CHECKPOINTS``. Each request's config adds the handler.

    Raises:
        GraphConfigError: If a setting of the graph is invalid.
    """
    async with checkpoints() as checkpointer:
        yield build_graph(checkpointer=checkpointer)


@asynccontextmanager
async def checkpoints() -> AsyncIterator[BaseCheckpointSaver[str]]:
    """Yield the checkpointer of ``ECO2_CHECKPOINTS``, and close it when the block ends.

    Values of ``ECO2_CHECKPOINTS``:

    - ``memory``, the default
    - ``sqlite:///relative/path`` or ``sqlite:////absolute/path``, with the extra ``sqlite``
    - ``postgresql://user:password@host/database``, with the extra ``postgres``

    Raises:
        GraphConfigError: If the value is none of these, the extra is not installed, or SQLite cannot use the path.
    """
    setting = os.environ.get("ECO2_CHECKPOINTS", "").strip() or "memory"
    if setting == "memory":
        yield InMemorySaver()
    elif path := setting.removeprefix("sqlite:///") if setting.startswith("sqlite:///") else "":
        try:
            from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver  # noqa: PLC0415 - an extra
        except ImportError as error:
            raise _not_installed("sqlite") from error
        _check_sqlite(path)
        async with AsyncSqliteSaver.from_conn_string(path) as sqlite:
            yield sqlite
    elif setting.startswith(("postgresql://", "postgres://")):
        try:
            from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver  # noqa: PLC0415 - an extra
            from psycopg import AsyncConnection  # noqa: PLC0415
            from psycopg.rows import DictRow, dict_row  # noqa: PLC0415
            from psycopg_pool import AsyncConnectionPool  # noqa: PLC0415
        except ImportError as error:
            raise _not_installed("postgres") from error
        async with AsyncConnectionPool(
            setting,
            connection_class=AsyncConnection[DictRow],
            min_size=1,
            max_size=2,  # the saver uses one at a time
            open=False,
            check=AsyncConnectionPool.check_connection,  # the server may have closed it meanwhile
            reconnect_timeout=_RECONNECT_SECONDS,
            kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},  # as the saver needs them
        ) as pool:
            postgres = AsyncPostgresSaver(pool)
            await postgres.setup()
            yield postgres
    else:
        # The value may hold a password.
        kind = setting.partition(":")[0]
        raise GraphConfigError(
            f"ECO2_CHECKPOINTS begins with {kind!r}, wanted 'memory', 'sqlite:///path' or 'postgresql://...'; "
            "correct it or unset it."
        )


def _check_sqlite(path: str) -> None:
    # The saver cannot check this: its thread outlives a failed connection and prints a traceback later.
    try:
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("BEGIN")
            connection.execute("CREATE TABLE IF NOT EXISTS writable (yes)")  # never committed
    except sqlite3.Error as error:
        raise GraphConfigError(
            f"ECO2_CHECKPOINTS is {path!r} (SQLite: {error}), wanted a writable database in an existing folder; "
            "correct it or unset it."
        ) from error


def _not_installed(extra: str) -> GraphConfigError:
    return GraphConfigError(
        f"ECO2_CHECKPOINTS needs the extra {extra!r}; install it: pip install 'eco2-callbacks[{extra}]'."
    )
