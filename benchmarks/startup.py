"""Measures what happens once in a process: the import, the first handler, the first call."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from statistics import median

__all__ = ["startup"]

_ROUNDS = 7
# A program that uses LangChain and LangSmith has loaded the first part anyway.
_PROGRAM = """
import time
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith import Client, traceable
from langsmith.run_trees import RunTree

class Model(FakeListChatModel):
    def _generate(self, *args, **kwargs):
        result = super()._generate(*args, **kwargs)
        usage = {"input_tokens": 12, "output_tokens": 3, "total_tokens": 15}
        result.generations[0].message.usage_metadata = usage
        result.generations[0].message.response_metadata = {"model_name": "gpt-5.2"}
        return result
    def _get_ls_params(self, stop=None, **kwargs):
        return {"ls_provider": "openai", "ls_model_name": "gpt-5.2"}

model = Model(responses=["answer"] * 9)
model.invoke("question")
model.invoke("question")
clock = time.perf_counter
times = [clock()]
import eco2_callbacks
times.append(clock())
from eco2_callbacks import Eco2CallbackHandler
times.append(clock())
handler = Eco2CallbackHandler()
times.append(clock())
model.invoke("question", {"callbacks": [handler]})
times.append(clock())
model.invoke("question", {"callbacks": [handler]})
times.append(clock())
from prometheus_client import REGISTRY, generate_latest
assert b"llm_cost_dollars_total" in generate_latest(REGISTRY)
times.append(clock())
print(*[later - earlier for earlier, later in zip(times, times[1:])])
"""
_EVENTS = (
    "import eco2_callbacks",
    "import Eco2CallbackHandler",
    "first handler",
    "first call",
    "second call",
    "first /metrics",
)


def startup() -> dict[str, str]:
    """Return the milliseconds of each event, with cached bytecode and without."""
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        cached = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        cached.pop("PYTHONDONTWRITEBYTECODE", None)
        _events(cached)  # compiles
        for mode, environment in (("", cached), (", no bytecode", {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"})):
            with tempfile.TemporaryDirectory() as empty:
                if mode:
                    environment["PYTHONPYCACHEPREFIX"] = empty
                rounds = [_events(environment) for _ in range(_ROUNDS)]
            for number, event in enumerate(_EVENTS):
                measured[event + mode] = f"{1000 * median(times[number] for times in rounds):.1f} ms"
    return measured


def _events(environment: dict[str, str]) -> list[float]:
    completed = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env=environment, check=True, capture_output=True, text=True
    )
    return [float(seconds) for seconds in completed.stdout.split()]
