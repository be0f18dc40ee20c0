"""Readers of LangSmith runs: metadata, model runs and their usage."""

from __future__ import annotations

from typing import Any

from tests.support.langsmith_server import LangSmithServer

# gpt-5.2: 1000 x 1.75 + 100 x 14 USD per million tokens
PRICED_USAGE = {
    "input_tokens": 1000,
    "output_tokens": 100,
    "total_tokens": 1100,
    "input_cost": 0.00175,
    "output_cost": 0.0014,
    "total_cost": 0.00315,
}


def metadata(run: dict[str, Any]) -> dict[str, Any]:
    return dict(run["extra"]["metadata"])


def model_runs(server: LangSmithServer) -> list[dict[str, Any]]:
    return [run for run in server.runs().values() if run["run_type"] == "llm"]


def usage_of(run: dict[str, Any]) -> dict[str, Any] | None:
    """Return a run's usage from its metadata, and check that its messages carry the same."""
    usage = metadata(run).get("usage_metadata")
    outputs = run.get("outputs") or {}
    if usage is not None and outputs.get("generations"):
        messages = [generation["message"]["kwargs"] for batch in outputs["generations"] for generation in batch]
        # A stream that is cut before its first chunk has no message.
        wanted = [usage, *[None] * len(messages)][: len(messages)]
        assert [message.get("usage_metadata") for message in messages] == wanted
    return usage
