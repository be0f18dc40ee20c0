"""Runbooks: each alert has one, with queries that parse and log lines that the code writes."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path
from typing import get_args

import promql_parser
import pytest

from eco2_callbacks.records import EstimateReason, UnpricedReason
from tests.support.rule_files import DEPLOY, alerts, faults

RUNBOOKS = DEPLOY / "runbooks"
ROOT = DEPLOY.parent
SECTIONS = ["First action", "Meaning", "Impact", "Diagnosis", "Mitigation", "Escalation"]
DASHBOARDS = {
    uid: json.loads((DEPLOY / "grafana" / f"{uid}.json").read_text("utf-8"))
    for uid in ("eco2-cost", "eco2-nodes", "eco2-overview", "eco2-streaming")
}
# What kubectl may do in the namespace: Argo CD takes back other changes, as it heals itself.
LASTING = re.compile(
    r"kubectl -n eco2 (get|describe|logs|exec|run|annotate|set env|delete pod|rollout (restart|status)) "
)
# Counted by the API; the worker's are always 0.
OF_API = {"chat_stream_recovery_total"}
# The alert of an SLO that names none of its own.
NAMES = sorted({rule.name for rule in alerts()} | {"LatencyBudgetBurn"})


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def faults_of(name: str, text: str) -> list[str]:
    """Return the faults of an alert's runbook."""
    found = []
    if not text.startswith(f"# {name}\n"):
        found.append("another title")
    if re.findall(r"^## (.*)$", text, re.MULTILINE) != SECTIONS:
        found.append("other sections")
    found += [
        f"nothing below {section}"
        for section in SECTIONS
        if re.search(rf"^## {section}\s*(?=## |\Z)", text, re.MULTILINE)
    ]
    diagnosis = text.partition("## Diagnosis")[2].partition("## Mitigation")[0]
    if not blocks(diagnosis, "promql"):
        found.append("no query to begin with")
    for query in blocks(text, "promql"):
        try:
            found += faults(query)
        except ValueError as error:
            found.append(f"{query!r} cannot be parsed: {error}")
    found += [
        f"nothing logs {line!r}" for line in blocks(text, "log") if not any(one.fullmatch(line) for one in messages())
    ]
    linked = re.findall(r"\]\((\w+)\.md\)", text)
    found += [f"no runbook {link}" for link in linked if link not in NAMES]
    found += [
        f"no dashboard {uid}" for uid in re.findall(r"`(eco2-\w+)", text) if uid not in {*DASHBOARDS, "eco2-chat"}
    ]
    found += [f"no setting {it}" for it in re.findall(r"\bECO2_[A-Z_]*[A-Z]\b", text) if it not in settings()]
    found += unseen(text) + undone(text)
    paths = re.findall(r"`((?:deploy|docs|graph)/[\w./-]+\.\w+)`", text)
    return found + [f"no file {path}" for path in paths if not (ROOT / path).exists()]


def unseen(text: str) -> list[str]:
    """Return the panels in a runbook that are on no dashboard, or on another one."""
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    shown = {uid: titles(uid) for uid in DASHBOARDS}
    known = set().union(*shown.values())
    found = [f"no panel {title}" for title in re.findall(r"\*([^*\n]+)\*", prose) if title not in known]
    for uid, rest in re.findall(r"\*[\w ]+\* \(`(eco2-\w+)`[^)]*\):([^.;]*)", prose):
        named = set(re.findall(r"\*([^*\n]+)\*", rest))
        found += [f"{title} is not on {uid}" for title in sorted(named & known - shown.get(uid, set()))]
    return found


def titles(uid: str) -> set[str]:
    """Return the titles of a dashboard, of its rows and of its panels."""
    dashboard = DASHBOARDS[uid]
    panels = [inner for panel in dashboard["panels"] for inner in (panel, *panel.get("panels", ()))]
    return {dashboard["title"].removeprefix("Eco2 "), *(panel["title"] for panel in panels)}


def undone(text: str) -> list[str]:
    """Return the commands that Argo CD takes back, or whose program is not where they run."""
    commands = re.findall(r"`([^`\n]+)`", text) + re.findall(r"^ {4,}(\S.*)$", text, re.MULTILINE)
    found = [f"does not last: {it}" for it in commands if it.startswith("kubectl -n") and not LASTING.match(f"{it} ")]
    found += [f"not in the image: {it}" for it in commands if it.startswith(("redis-cli", "psql"))]
    wrong = [f'{name}{{job="eco2-chat-worker"' for name in OF_API]
    return found + [f"always 0: {it}" for it in wrong if it in text]


@cache
def code() -> str:
    return "\n".join(path.read_text() for tree in ("eco2_callbacks", "graph") for path in (ROOT / tree).rglob("*.py"))


@cache
def settings() -> frozenset[str]:
    """Return the project's variables in the code, and the variables of single nodes."""
    named = set(re.findall(r"\bECO2_[A-Z_]*[A-Z]\b", code()))
    nodes = [path.stem.upper() for path in (ROOT / "graph" / "nodes").glob("*.py")]
    return frozenset(named | {"ECO2_PROVIDER"} | {f"ECO2_PROVIDER_{node}" for node in nodes})


@cache
def messages() -> tuple[re.Pattern[str], ...]:
    """Return every string of the code as a pattern, in which a placeholder matches any text."""
    texts = set()
    for node in ast.walk(ast.parse(code().replace("from __future__ import annotations", ""))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(re.sub(r"%[-.\d]*[srdf]", "\0", node.value))
        elif isinstance(node, ast.JoinedStr):
            texts.add("".join(part.value if isinstance(part, ast.Constant) else "\0" for part in node.values))
    # Strings that are almost only placeholders would match every line.
    return tuple(
        re.compile(re.escape(text).replace("\0", ".+"), re.DOTALL) for text in texts if len(text.replace("\0", "")) > 12
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_has_a_runbook_that_can_be_followed(name: str) -> None:
    """A runbook begins with the first action and ends with the escalation; what it names is valid."""
    assert faults_of(name, (RUNBOOKS / f"{name}.md").read_text()) == []


def callbacks() -> set[str]:
    """Return the callbacks whose errors a handler counts; those of LangChain's events as one."""
    exposition = (ROOT / "tests" / "golden" / "fresh.prom").read_text()
    named = set(re.findall(r'eco2_callbacks_errors_total\{callback="(\w+)"', exposition))
    return {"on_*" if name.startswith("on_") else name for name in named | {"sdk_retries"}}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("CallbackErrors", callbacks()),
        ("EstimatedCostShareHigh", set(get_args(EstimateReason))),
        ("LLMCallsUnpriced", set(get_args(UnpricedReason))),
    ],
    ids=["callback", "estimate_reason", "unpriced_reason"],
)
def test_a_runbook_explains_every_value(name: str, values: set[str]) -> None:
    """Whatever value of the label the alert has, the runbook says what it means."""
    meaning = (RUNBOOKS / f"{name}.md").read_text().partition("## Meaning")[2].partition("## Impact")[0]

    assert values - set(re.findall(r"`([\w*]+)`", meaning)) == set()


def test_every_runbook_has_its_alert() -> None:
    """Each runbook belongs to an alert, and each alert has a runbook."""
    assert unmatched(RUNBOOKS) == set()


def unmatched(directory: Path) -> set[str]:
    return {path.stem for path in directory.iterdir()} ^ set(NAMES)


def test_a_missing_runbook_is_found(tmp_path: Path) -> None:
    """The check above finds a missing runbook and a leftover one."""
    for name in [*NAMES[1:], "Forgotten"]:
        (tmp_path / f"{name}.md").touch()

    assert unmatched(tmp_path) == {NAMES[0], "Forgotten"}


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        pytest.param("# CallbackErrors", "# CallbackError", "another title", id="title"),
        pytest.param("## Impact\n", "## Consequences\n", "other sections", id="section"),
        pytest.param("sum by (callback", "sum buy (callback", "cannot be parsed", id="syntax"),
        pytest.param("llm_calls_total{", "llm_call_total{", "no metric llm_call_total", id="metric"),
        pytest.param("sum by (callback,", "sum by (node,", "no label node to aggregate by", id="label"),
        pytest.param("on_llm_end failed for run", "on_llm_end broke in run", "nothing logs", id="log"),
    ],
)
def test_a_broken_runbook_is_found(old: str, new: str, found: str) -> None:
    """The check above finds each of these faults."""
    text = (RUNBOOKS / "CallbackErrors.md").read_text()
    assert old in text

    assert any(found in fault for fault in faults_of("CallbackErrors", text.replace(old, new)))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[more](LLMRateLimit.md)", "no runbook LLMRateLimit"),
        ("*Cost* (`eco2-costs`)", "no dashboard eco2-costs"),
        ("set `ECO2_PROVIDERS`", "no setting ECO2_PROVIDERS"),
        ("see `graph/node.py`", "no file graph/node.py"),
        ("open *Queue*", "no panel Queue"),
        ("Panels: *Cost* (`eco2-cost`): *Queue and slots*.", "Queue and slots is not on eco2-cost"),
        ("`kubectl -n eco2 rollout undo deploy/x`", "does not last: kubectl -n eco2 rollout undo deploy/x"),
        ("`redis-cli --latency`", "not in the image: redis-cli --latency"),
    ],
)
def test_a_reference_to_nowhere_is_found(text: str, found: str) -> None:
    """The check above finds unknown links, dashboards, settings and files."""
    whole = (RUNBOOKS / "CallbackErrors.md").read_text()

    assert faults_of("CallbackErrors", f"{whole}\n{text}\n") == [found]


def test_an_empty_section_is_found() -> None:
    """The check above finds a section without text."""
    text = (RUNBOOKS / "CostJump.md").read_text()
    empty = re.sub(r"## Impact\n.*?(?=## )", "## Impact\n\n", text, flags=re.DOTALL)

    assert faults_of("CostJump", empty) == ["nothing below Impact"]


def test_the_parser_is_the_real_one() -> None:
    """The parser is Prometheus' own: it rejects an unknown function."""
    with pytest.raises(ValueError, match="unknown function"):
        promql_parser.parse("increased(up[5m])")
