"""Loads the chat API with Locust: time to the first token inside the event stream, and to the end of the answer.

    uvx --from locust==2.47.0 locust -f deploy/load/locustfile.py --headless -H http://127.0.0.1:8000 -u 20 -r 2 -t 5m

Questions follow ``mix.json``, and its limits are the SLOs of ``deploy/prometheus/rules/slo.yaml``. The exit status is 1
if an SLO is missed or was not measured, or if too many questions failed. ``ECO2_TOKEN`` is the bearer token. Raise
``ECO2_TENANT_REQUESTS_PER_MINUTE`` on the API: a refused question counts as failed.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from locust import HttpUser, between, events, task
from locust.env import Environment

_HERE = Path(__file__).parent
_READ_BYTES = 65_536
_TIMEOUT_SECONDS = (10, 60)  # to connect; between two pieces of a stream, whose heartbeat comes every 15 s


class Results:
    """What the run measured, apart from Locust's own statistics, which round and keep no limits."""

    def __init__(self, mix: dict[str, Any]) -> None:
        self.mix = mix
        self.first_token_seconds: dict[str, list[float]] = defaultdict(list)
        self.answer_seconds: dict[str, list[float]] = defaultdict(list)
        self.asked = self.failed = 0

    def verdicts(self) -> list[tuple[bool, str]]:
        """Return each objective: whether it is met, and a line that says so."""
        share = self.failed / self.asked if self.asked else None
        shown = "none asked" if share is None else f"{share:.1%} of {self.asked}"
        lines = [
            (
                share is not None and share <= self.mix["max_error_share"],
                f"failed questions: {shown}, allowed {self.mix['max_error_share']:.1%}",
            )
        ]
        for intent, entry in self.mix["intents"].items():
            if "limit_seconds" not in entry:
                continue
            measured = self.answer_seconds[intent]
            fast = sum(seconds <= entry["limit_seconds"] for seconds in measured)
            shown = f"{fast / len(measured):.1%} of {len(measured)}" if measured else "none measured"
            lines.append(
                (
                    bool(measured) and fast / len(measured) >= self.mix["objective"],
                    f"{entry['slo']}: {shown} within {entry['limit_seconds']:g} s, wanted {self.mix['objective']:.0%}",
                )
            )
        return lines

    def first_tokens(self) -> Iterator[str]:
        """Yield the quantiles of the time to the first token, by intent."""
        for intent, measured in sorted(self.first_token_seconds.items()):
            ordered = sorted(measured)
            at = {share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] for share in (0.5, 0.95)}
            yield f"{intent}: first token p50 {at[0.5]:.3f} s, p95 {at[0.95]:.3f} s, {len(ordered)} answers"


@events.init_command_line_parser.add_listener
def _add_options(parser: Any) -> None:
    parser.add_argument("--mix", default=str(_HERE / "mix.json"), help="questions, weights and limits")
    parser.add_argument("--results", default="", help="write the seconds of every answer to this file, as JSON")
    parser.add_argument("--think-seconds", type=float, default=2.0, help="a user's pause between two questions")


@events.init.add_listener
def _begin(environment: Environment, **_: Any) -> None:
    mix = json.loads(Path(environment.parsed_options.mix).read_text(encoding="utf-8"))
    environment.results = Results(mix)  # type: ignore[attr-defined]


@events.quitting.add_listener
def _judge(environment: Environment, **_: Any) -> None:
    results: Results = environment.results  # type: ignore[attr-defined]
    for line in results.first_tokens():
        print(line)
    verdicts = results.verdicts()
    for is_met, line in verdicts:
        print("met   " if is_met else "MISSED", line)
    environment.process_exit_code = 0 if all(is_met for is_met, _ in verdicts) else 1
    if path := environment.parsed_options.results:
        seconds = {"first_token": results.first_token_seconds, "answer": results.answer_seconds}
        Path(path).write_text(json.dumps(seconds), encoding="utf-8")


class ChatUser(HttpUser):
    """Asks a question, reads its events to the last one, and thinks."""

    def wait_time(self) -> float:
        """Return the pause before the next question, in seconds."""
        think = self.environment.parsed_options.think_seconds
        return between(0.5 * think, 1.5 * think)(self)

    def on_start(self) -> None:
        """Read what all questions of this user share."""
        self.results: Results = self.environment.results
        token = os.environ.get("ECO2_TOKEN", "")
        self.client.headers.update({"Authorization": f"Bearer {token}"} if token else {})
        self.client.trust_env = False

    @task
    def ask(self) -> None:
        """Ask one question of the mix."""
        intents = self.results.mix["intents"]
        (intent,) = random.choices(list(intents), [entry["weight"] for entry in intents.values()])
        began = time.perf_counter()
        body = {"message": random.choice(intents[intent]["questions"])}
        try:
            accepted = self.client.post("/api/v1/chat", json=body, name="ask", timeout=_TIMEOUT_SECONDS)
            accepted.raise_for_status()
            self._read(intent, accepted.json()["events_url"], began)
            self.results.asked += 1
        except Exception as error:  # a user that is stopped with the run is neither
            self.results.asked += 1
            self.results.failed += 1
            self._report("answer", intent, began, error)

    def _read(self, intent: str, url: str, began: float) -> None:
        options = {"stream": True, "catch_response": True, "timeout": _TIMEOUT_SECONDS}
        with self.client.get(url, name="events", **options) as answer:
            answer.raise_for_status()
            has_token = False
            for kind in _kinds(answer):
                if kind == "token" and not has_token:
                    has_token = True
                    self.results.first_token_seconds[intent].append(self._report("first token", intent, began))
                elif kind == "done":
                    self.results.answer_seconds[intent].append(self._report("answer", intent, began))
                    return
                elif kind == "error":
                    raise RuntimeError("the answer ended with an error event")
        raise RuntimeError("the stream ended without a last event")

    def _report(self, what: str, intent: str, began: float, error: Exception | None = None) -> float:
        seconds = time.perf_counter() - began
        self.environment.events.request.fire(
            request_type="SSE",
            name=f"{what} [{intent}]",
            response_time=1000 * seconds,
            response_length=0,
            exception=error,
            context={},
        )
        return seconds


def _kinds(answer: Any) -> Iterator[str]:
    """Yield the kinds of a stream's events as they arrive.

    ``iter_lines`` would wait for 512 bytes, and report the first token with a later one.
    """
    rest = b""
    while piece := answer.raw.read1(_READ_BYTES):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.startswith(b"event: "):
                yield line.removeprefix(b"event: ").strip().decode()
