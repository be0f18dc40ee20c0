"""Write each model call as a line of JSON with a sink of your own; runs without keys."""

from __future__ import annotations

import json
import sys
from typing import TextIO

from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LLMCall, Record, run_config
from eco2_callbacks.testing import FakeChatModel


class JsonLines:
    """Has ``close``, so it works on a thread of its own behind a queue; no call waits for it."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def emit(self, record: Record) -> None:
        if isinstance(record, LLMCall):
            call = record.to_dict()
            print(json.dumps({name: call[name] for name in ("model", "tenant_id", "usage", "cost")}), file=self._file)

    def close(self) -> None:
        self._file.flush()


if __name__ == "__main__":
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[JsonLines(sys.stdout)]) as handler:
        FakeChatModel().invoke("Where does glass go?", run_config(handler, job_id="42", tenant_id="acme"))
