"""Keep every call as a row and report what each tenant spent; runs without keys."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, run_config
from eco2_callbacks.cli import main as eco2
from eco2_callbacks.testing import FakeChatModel

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        ledger = str(Path(folder) / "eco2.db")  # or postgresql://..., clickhouse://...
        with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger) as handler:
            for tenant in ("acme", "zoo", "acme"):
                FakeChatModel().invoke("Where does glass go?", run_config(handler, job_id="42", tenant_id=tenant))
        # The same as: eco2 report --by tenant --by model --ledger eco2.db
        eco2(["report", "--by", "tenant", "--by", "model", "--ledger", ledger])
