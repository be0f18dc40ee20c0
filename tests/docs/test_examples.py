"""Every program in examples/ runs without keys and prints what its page says."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
# What each prints at least.
PRINTED = {
    "live_tree.py": ["2 in parallel", "search_archive", "16,384", "answer"],
    # gpt-5.2: 2 x (1000 x 1.75 + 100 x 14) / 1e6, and 3 x the same
    # (200 x 1.75 + 800 x 0.175 + 100 x 14) / 1e6 a call
    "test_agent.py": ["1 passed", "2 model calls: 2,000 input tokens"],
    "test_costs.py": ["2 tests made 3 model calls", "0.00567 USD", "2 passed"],
    "measure_embeddings.py": ["indexing: 1 model call, 14 input tokens", "searching: 1 model call, 5 input tokens"],
    "count_sdk_retries.py": ["requests that were sent: 3", "retries that were counted: 2"],
    "otel_metrics.py": [
        "gen_ai.client.token.usage",
        "gen_ai.client.usage.cost",
        "0.00315",
        "gen_ai.invoke_agent.duration",
    ],
    "deep_agent.py": ["boss/model", "boss/tools/researcher/model", "gpt-4.1-mini", "0.000056 USD"],
    # 5000 x 0.20 / 1e6 + 500 x 0.80 / 1e6
    "custom_rates.py": ["1 model call, 5,000 input tokens", "0.0014 USD"],
    # (100 x 1.75 + 10 x 14) / 1e6
    "own_sink.py": ['"tenant_id": "acme"', '"total_usd": "0.00031500"'],
    "prometheus_metrics.py": ['tenant_id="acme"} 0.00063', 'tenant_id="zoo"} 0.000315'],
    "keep_a_ledger.py": ["acme", "zoo", "0.000945"],
    # (10 x 1.75 + 500 x 14) / 1e6 each: a third call could exceed 0.02
    "limit_a_run.py": ["stopped: Budget 'max_usd'", "2 model calls", "0.014035 USD"],
    "check_setup.py": ["stream-usage", "Pass stream_usage=True", "past-handler"],
    # 2 x (200 x 1.75 + 800 x 0.175 + 100 x 14) / 1e6
    "compare_tools.py": ["the other tool: 2200 tokens", "2200 tokens, 0.00378 USD"],
    "measure_cost.py": ["the batch: 0.0063 USD for 2200 tokens", "the script: 3 model calls", "0.00945 USD"],
}


def test_every_example_is_run() -> None:
    """A new example gets its line in the table above, or its own test."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name.startswith("test_") else name for name in PRINTED]
)
def test_an_example_runs(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An example is a whole program of 20 to 42 lines, or a suite for pytest."""
    monkeypatch.setenv("COLUMNS", "110")

    if name.startswith("test_"):
        command = [sys.executable, "-m", "pytest", EXAMPLES / name, "--llm-costs", "-n0", "-p", "no:cacheprovider"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        printed = done.stdout
    else:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        printed = capsys.readouterr().out
    assert [text for text in PRINTED[name] if text not in printed] == []
    assert len((EXAMPLES / name).read_text().splitlines()) <= 42
