"""The pytest plugin, run on small suites by pytest's own pytester."""

from __future__ import annotations

import json
import re

import langchain_openai
import langgraph.graph
import pytest
import vcr
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.testing import FakeChatModel

pytest_plugins = ["pytester"]

# gpt-5.2, USD per million tokens: (1000 x 1.75 + 100 x 14) / 1e6 = 0.00315 a call
SUITE = """
import asyncio, threading
import pytest
from langgraph.graph import StateGraph, START, END
from typing_extensions import TypedDict
from eco2_callbacks import TokenUsage
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=1000, output_tokens=100))

class State(TypedDict, total=False):
    text: str

def ask(state):
    return {"text": model.invoke("x").text}

def check(state):
    model.invoke("y")
    return {}

def graph():
    builder = StateGraph(State)
    builder.add_node(ask)
    builder.add_node(check)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "check")
    builder.add_edge("check", END)
    return builder.compile()
"""


@pytest.fixture(autouse=True, scope="module")
def imported() -> object:
    """Import what the suites need: pytester forgets what a suite imports itself, and each would do it again."""
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        FakeChatModel().invoke("x", {"callbacks": [handler]})
    return langchain_openai, langgraph.graph, vcr


@pytest.fixture(autouse=True)
def plain(pytester: pytest.Pytester) -> None:
    """No colours, and only the plugins that a user of ours has."""
    options = "asyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
    pytester.makeini(f"[pytest]\n{options}addopts = -p no:cacheprovider --color=no\n")


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(test_costs=SUITE + tests)
    return pytester.runpytest_inprocess(*arguments)


def test_the_fixture_holds_the_calls_of_its_test(pytester: pytest.Pytester) -> None:
    """A test sees its own calls by node, agent and model, in any thread or task, without naming a handler."""
    result = run(
        pytester,
        """
def test_graph(llm_costs):
    graph().invoke({})
    assert {node: str(totals.cost) for node, totals in llm_costs.by_node.items()} == {
        "ask": "0.00315 USD", "check": "0.00315 USD"
    }
    assert llm_costs.by_model["gpt-5.2"].llm_calls == 2
    assert list(llm_costs.by_agent) == [""]
    assert llm_costs.usage.input_tokens == 2000
    assert len(llm_costs.calls) == 2 and len(llm_costs.records) == 5
    assert "0.0063" in str(llm_costs)

def test_threads(llm_costs):
    thread = threading.Thread(target=model.invoke, args=("x", {"callbacks": []}))
    thread.start(); thread.join()
    assert llm_costs.totals.llm_calls == 1

async def test_tasks(llm_costs):
    await asyncio.gather(*(model.ainvoke("x") for _ in range(3)))
    assert llm_costs.totals.llm_calls == 3

def test_no_call(llm_costs):
    assert llm_costs.cost.total_usd == 0 and llm_costs.calls == []
""",
    )

    result.assert_outcomes(passed=4)


def test_an_application_with_a_handler_of_its_own_is_measured_once(pytester: pytest.Pytester) -> None:
    """The plugin's handler and the application's each count a call once."""
    result = run(
        pytester,
        """
from prometheus_client import CollectorRegistry
from eco2_callbacks import Eco2CallbackHandler

def test_both(llm_costs):
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        graph().invoke({}, {"callbacks": [handler]})
        assert handler.totals() == llm_costs.totals
    assert llm_costs.totals.llm_calls == 2
""",
    )

    result.assert_outcomes(passed=1)


def test_the_environment_s_ledger_and_budgets_are_left_alone(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A test's calls go to no ledger and fail by no budget, whatever the environment names for the application."""
    ledger, budgets = pytester.path / "ledger.db", pytester.path / "budgets.toml"
    budgets.write_text('[[budgets]]\nname = "day"\nwindow = "day"\nlimit_usd = 0.0001\n')
    monkeypatch.setenv("ECO2_LEDGER", str(ledger))
    monkeypatch.setenv("ECO2_BUDGETS", str(budgets))

    result = run(
        pytester,
        """
def test_calls(llm_costs):
    for _ in range(3):
        model.invoke("x")
    assert llm_costs.totals.llm_calls == 3
""",
    )

    result.assert_outcomes(passed=1)
    assert not ledger.exists()


def test_calls_of_shared_fixtures_belong_to_no_test(pytester: pytest.Pytester) -> None:
    """A function's fixture counts for its test; a module's does not, whichever test comes first."""
    result = run(
        pytester,
        """
@pytest.fixture(scope="module")
def shared():
    return model.invoke("shared").text

@pytest.fixture
def own():
    yield model.invoke("own").text
    model.invoke("teardown")

def test_first(shared, own, llm_costs):
    assert llm_costs.totals.llm_calls == 1

def test_second(shared, own, llm_costs):
    assert llm_costs.totals.llm_calls == 1
""",
    )

    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("marker", "fault"),
    [
        pytest.param('limit_cost(usd="0.0063")', None, id="at_the_limit"),
        pytest.param("limit_cost(0.02)", None, id="below"),
        pytest.param(
            'limit_cost(usd="0.00629")',
            "The model calls cost 0.0063 USD, more than limit_cost(usd='0.00629').",
            id="above",
        ),
        pytest.param("limit_tokens(2200)", None, id="tokens_at_the_limit"),
        pytest.param(
            "limit_tokens(2199)",
            "The model calls used 2,200 total tokens, more than limit_tokens(total=2199).",
            id="tokens_above",
        ),
        pytest.param(
            "limit_tokens(input=5000, output=199)",
            "The model calls used 200 output tokens, more than limit_tokens(output=199).",
            id="output_above",
        ),
    ],
)
def test_a_test_above_its_limit_fails(pytester: pytest.Pytester, marker: str, fault: str | None) -> None:
    """The failure names the figure, the limit, and the calls by node."""
    result = run(pytester, f"@pytest.mark.{marker}\ndef test_graph():\n    graph().invoke({{}})\n", "--strict-markers")

    result.assert_outcomes(passed=int(fault is None), failed=int(fault is not None))
    if fault is not None:
        result.stdout.fnmatch_lines([fault, "agent  node   model    calls*USD", "-      ask    gpt-5.2      1*0.00315"])


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        ("limit_cost()", "limit_cost has usd=None*wanted dollars such as*"),
        ("limit_cost(usd='cheap')", "limit_cost has usd='cheap'*wanted dollars such as*"),
        ("limit_cost(usd=-1)", "limit_cost has usd=-1*wanted dollars such as*"),
        ("limit_cost(usd='1', eur=1)", "limit_cost has usd='1'*'eur'*wanted dollars such as*"),
        ("limit_tokens()", "limit_tokens has {}, wanted counts such as*"),
        ("limit_tokens(cached=1)", "limit_tokens has *'cached'*wanted counts such as*"),
        ("limit_tokens(1.5)", "limit_tokens has *1.5*wanted counts such as*"),
    ],
)
def test_a_wrong_marker_is_an_error(pytester: pytest.Pytester, marker: str, message: str) -> None:
    """A limit that cannot be read never passes as no limit."""
    result = run(pytester, f"@pytest.mark.{marker}\ndef test_graph():\n    pass\n")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])


def test_an_unpriced_call_fails_a_limit_of_cost(pytester: pytest.Pytester) -> None:
    """An unknown price is not a price of zero."""
    tests = """
unknown = FakeChatModel(model="nobody-sells-this")

@pytest.mark.limit_cost("1")
def test_strict():
    unknown.invoke("x")

@pytest.mark.limit_cost("1", allow_unpriced=True)
def test_lenient():
    unknown.invoke("x")
"""

    result = run(pytester, tests)

    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["1 of the model calls have no price, so limit_cost(usd='1') cannot be checked.*"])


def test_a_failing_test_keeps_its_own_failure(pytester: pytest.Pytester) -> None:
    """A limit never hides what the test itself found."""
    tests = "@pytest.mark.limit_cost('0')\ndef test_x():\n    graph().invoke({})\n    assert 1 == 2\n"

    result = run(pytester, tests)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 1 == 2*"])
    result.stdout.no_fnmatch_line("*more than limit_cost*")


def test_the_summary_names_the_dearest_tests(pytester: pytest.Pytester) -> None:
    """--llm-costs measures every test; the summary has the total and the dearest tests first."""
    tests = """
def test_cheap():
    model.invoke("x")

def test_dear():
    graph().invoke({})

def test_free():
    pass
"""

    result = run(pytester, tests, "--llm-costs", "--llm-costs-top=1")

    result.stdout.fnmatch_lines(
        [
            "*LLM costs*",
            "2 tests made 3 model calls: 3,000 input tokens (0 cached), 300 output tokens, 0.00945 USD",
            " 0.0063 USD*2,200 tokens*2 calls*test_costs.py::test_dear",
        ]
    )
    result.stdout.no_fnmatch_line("*USD*test_cheap")


def test_the_summary_adds_up_repeated_attempts(pytester: pytest.Pytester) -> None:
    """A plugin that repeats failed tests spends each time; a snapshot holds the attempt that passed."""
    pytester.makeconftest(
        """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    for attempt in range(3):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
        for report in reports:
            if report.failed:
                report.outcome = "rerun"
            item.ihook.pytest_runtest_logreport(report=report)
        if not any(report.outcome == "rerun" for report in reports):
            return True
        item._initrequest()
"""
    )
    pytester.makepyfile(
        SUITE
        + """
attempts = []

def test_flaky():
    attempts.append(1)
    model.invoke("x")
    assert len(attempts) > 2
"""
    )

    result = pytester.runpytest("--cost-snapshot=update", "--llm-costs")

    result.stdout.fnmatch_lines(["1 tests made 3 model calls: 3,000 input tokens (0 cached), 300 output tokens*"])
    (snapshot,) = pytester.path.rglob("__cost_snapshots__/*.json")
    assert '"calls": 1' in snapshot.read_text()


def test_nothing_is_measured_unless_it_is_wanted(pytester: pytest.Pytester) -> None:
    """A suite that does not use the plugin runs as if it were not installed."""
    tests = """
def test_plain():
    from langchain_core.callbacks import CallbackManager
    assert [type(handler).__name__ for handler in CallbackManager.configure().handlers] == []
    model.invoke("x")
"""

    result = run(pytester, tests)

    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*LLM costs*")


def test_a_snapshot_is_written_kept_and_compared(pytester: pytest.Pytester) -> None:
    """Snapshots are readable JSON; a test that costs more fails with a diff, and update accepts it."""
    tests = "def test_graph():\n    graph().invoke({})\n\ndef test_one():\n    model.invoke('x')\n"
    run(pytester, tests, "--cost-snapshot=update").stdout.fnmatch_lines(["cost snapshot written: *test_costs.json"])
    path = pytester.path / "__cost_snapshots__" / "test_costs.json"
    written = json.loads(path.read_text())
    assert written["test_one"] == [
        {"model": "gpt-5.2", "calls": 1, "input_tokens": 1000, "output_tokens": 100, "usd": "0.00315"}
    ]
    assert [row["node"] for row in written["test_graph"]] == ["ask", "check"]

    run(pytester, tests).assert_outcomes(passed=2)
    dearer = tests.replace("invoke('x')", "batch(['x', 'y'])") + "\ndef test_new():\n    model.invoke('x')\n"
    result = run(pytester, dearer)

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            "The model calls of this test differ from its snapshot. Run pytest --cost-snapshot=update to accept it.",
            "  agent  node  model    calls  input  cached  output      USD",
            "- -      -     gpt-5.2      1  1,000       0     100  0.00315",
            "+ -      -     gpt-5.2      2  2,000       0     200   0.0063",
            "- total  -     -            1  1,000       0     100  0.00315",
            "+ total  -     -            2  2,000       0     200   0.0063",
            "The model calls of this test are in no snapshot. Run pytest --cost-snapshot=update to accept it.",
        ]
    )
    run(pytester, dearer, "--cost-snapshot=off").assert_outcomes(passed=3)
    run(pytester, dearer, "--cost-snapshot=update").assert_outcomes(passed=3)
    run(pytester, dearer).assert_outcomes(passed=3)


def test_update_leaves_failed_and_unselected_tests_alone(pytester: pytest.Pytester) -> None:
    """Only what ran to its end is written; a test that makes no call any more is dropped."""
    tests = "\n".join(f"def test_{name}():\n    model.invoke('x')\n" for name in "abc")
    run(pytester, tests, "--cost-snapshot=update")

    changed = tests.replace("    model.invoke('x')\n", "    assert 0\n", 1)
    changed = changed[: changed.rindex("    model")] + "    pass\n"
    run(pytester, changed, "--cost-snapshot=update", "-k", "test_a or test_c")

    assert sorted(json.loads((pytester.path / "__cost_snapshots__" / "test_costs.json").read_text())) == [
        "test_a",
        "test_b",
    ]


def test_a_broken_snapshot_is_named(pytester: pytest.Pytester) -> None:
    """A snapshot that cannot be read fails its tests and says what to do."""
    tests = "def test_a():\n    model.invoke('x')\n"
    (pytester.path / "__cost_snapshots__").mkdir()
    (pytester.path / "__cost_snapshots__" / "test_costs.json").write_text("{")

    result = run(pytester, tests)

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*__cost_snapshots__*cannot be read*Delete it and run pytest --cost-snapshot=update*"])


@pytest.mark.slow
def test_xdist_workers_report_to_one_summary_and_one_snapshot(pytester: pytest.Pytester) -> None:
    """With -n 2 the controller writes every snapshot and sums all workers."""
    tests = "@pytest.mark.parametrize('n', range(6))\ndef test_one(n):\n    model.invoke('x')\n"
    pytester.makepyfile(test_costs=SUITE + tests)

    result = pytester.runpytest_subprocess("-n2", "--cost-snapshot=update")

    result.assert_outcomes(passed=6)
    result.stdout.fnmatch_lines(["6 tests made 6 model calls: *0.0189 USD"])
    snapshot = json.loads((pytester.path / "__cost_snapshots__" / "test_costs.json").read_text())
    assert sorted(snapshot) == [f"test_one[{n}]" for n in range(6)]
    pytester.makepyfile(test_costs=(SUITE + tests).replace("invoke('x')", "batch(['x'] * 2)"))
    checked = pytester.runpytest_subprocess("-n2")
    checked.assert_outcomes(failed=6)
    assert len(re.findall("differ from its snapshot", checked.stdout.str())) >= 6


CASSETTE = """
import vcr
from langchain_openai import ChatOpenAI

@pytest.mark.limit_cost(usd="0.01")
def test_replayed(llm_costs):
    with vcr.use_cassette({path!r}, record_mode="none", match_on=["method"]):
        ChatOpenAI(model={model!r}, api_key="x").invoke("x")
    assert llm_costs.usage.total_tokens > 0
    assert llm_costs.totals.unpriced_calls == 0
"""


def test_a_cassette_is_billed_like_the_recording(pytester: pytest.Pytester, request: pytest.FixtureRequest) -> None:
    """A replayed answer has the usage that was recorded, so limits and snapshots hold without a network."""
    folder = request.config.rootpath / "cassettes" / "test_cassette"
    path = folder / "test_a_replayed_call_is_billed-openai_plain.yaml"
    tests = CASSETTE.format(path=str(path), model="gpt-5.2")

    run(pytester, tests, "--cost-snapshot=update").assert_outcomes(passed=1)

    run(pytester, tests).assert_outcomes(passed=1)
