"""The branches of each intent, on scripted models and services."""

from __future__ import annotations

from typing import Any

import pytest

from eco2_callbacks import NodeRun
from tests.support.fake_graph import PIXEL, Script, fields
from tests.support.record_sink import Records

ALWAYS = ("intent", "router", "aggregator", "answer")


INTENTS = [
    ("waste", ("waste_rag", "weather"), ("feedback",)),
    ("bulk_waste", ("bulk_waste", "weather"), ()),
    ("character", ("character",), ()),
    ("location", ("location", "web_search"), ()),
    ("web_search", ("web_search",), ()),
    ("recyclable_price", ("recyclable_price",), ()),
    ("collection_point", ("collection_point",), ()),
    ("image_generation", ("image_generation",), ()),
    ("general", ("general",), ()),
    ("greeting", ("general",), ()),
]


@pytest.mark.parametrize(("intent", "branches", "later"), INTENTS, ids=[intent for intent, _, _ in INTENTS])
async def test_the_branches_of_an_intent_run_and_are_joined(
    ask: Any, script: Script, records: Records, intent: str, branches: tuple[str, ...], later: tuple[str, ...]
) -> None:
    """Exactly the intent's nodes run, once each and in parallel, and the answer node gets all results."""
    script.fields["intent"] = fields(intent)
    script.texts["image_generation"] = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PIXEL},
        {"type": "text", "text": "포스터입니다."},
    ]
    if len(branches) > 1:
        script.barrier = set(branches)

    state = await ask("페트병?")

    runs = records.nodes
    assert set(runs) == {*ALWAYS, *branches, *later}
    assert {runs[node].step for node in branches} == {runs["router"].step + 1}
    assert {node for node in runs if runs[node].parallel} == (set(branches) if len(branches) > 1 else set())
    assert records.request.intent == intent
    assert set(state["results"]) == set(branches)
    assert not any(result["failed"] for result in state["results"].values())
    prompt = script.requests["answer"][0][0].text
    assert prompt.count("\n## ") == len(branches)
    for branch in branches:
        assert state["results"][branch]["text"] in prompt
    assert state["answer"].strip() == "answer의 답"


async def test_weather_runs_with_any_intent(ask: Any, script: Script, records: Records) -> None:
    """The weather node runs in parallel with any intent, and both results are in one answer."""
    script.fields["intent"] = fields("general", weather=True, place="부산")
    script.barrier = {"general", "weather"}

    state = await ask("오늘 부산 날씨 어때?")

    assert set(state["results"]) == {"general", "weather"}
    assert (state["weather"], state["place"]) == (True, "부산")
    assert records.nodes["weather"].parallel


async def test_a_poor_answer_triggers_a_web_search(ask: Any, script: Script, records: Records) -> None:
    """Below the threshold, the web search runs too, and the score is in the state."""
    script.fields |= {"intent": fields("waste"), "feedback": {"score": 0.3}}

    state = await ask("페트병 어떻게 버려?")

    assert state["scores"] == {"rag_quality": 0.3}
    assert set(state["results"]) == {"waste_rag", "weather", "web_search"}
    assert [run.node for run in records.of(NodeRun)].count("aggregator") == 1


async def test_no_passage_triggers_a_web_search_without_a_score(ask: Any, script: Script) -> None:
    """Without a passage, no model writes or scores an answer."""
    script.fields["intent"] = fields("waste")

    state = await ask("qzx?")

    assert "waste_rag" not in script.requests
    assert "feedback" not in script.requests
    assert state["scores"] == {"rag_quality": 0.0}
    assert state["results"]["waste_rag"]["failed"]
    assert not state["results"]["web_search"]["failed"]


@pytest.mark.parametrize(("graded", "score"), [(1.7, 1.0), (-3, 0.0)])
async def test_a_score_stays_within_its_bounds(ask: Any, script: Script, graded: float, score: float) -> None:
    """The score is clamped to 0 to 1."""
    script.fields |= {"intent": fields("waste"), "feedback": {"score": graded}}

    assert (await ask("페트병 어떻게 버려?"))["scores"] == {"rag_quality": score}


async def test_the_answer_uses_the_rules(ask: Any, script: Script) -> None:
    """The model gets the retrieved passages, and the context names their sources."""
    script.fields["intent"] = fields("waste")

    state = await ask("아이스팩 버리는 법 알려줘")

    assert "- 아이스팩 (비닐류와 스티로폼): " in script.requests["waste_rag"][0][0].text
    assert state["results"]["waste_rag"]["sources"][0].startswith("환경부")
    assert "출처: 환경부" in state["context"]


async def test_the_web_is_searched_for_each_planned_query(ask: Any, script: Script, records: Records) -> None:
    """At most two queries run, in parallel, and each cited URL is a source once."""
    script.fields |= {"intent": fields("web_search"), "web_search": {"queries": ["하나", "둘", "셋"]}}
    cited = [{"type": "url_citation", "url": "https://me.go.kr", "title": "t", "start_index": 0, "end_index": 1}]
    script.texts["web_search"] = [{"type": "text", "text": "찾았습니다.", "annotations": cited}]

    state = await ask("올해 바뀐 제도는?")

    assert [messages[-1].text for messages in script.requests["web_search"]] == ["올해 바뀐 제도는?", "하나", "둘"]
    assert state["results"]["web_search"]["sources"] == ["https://me.go.kr"]
    assert len([call for call in records.calls if call.node == "web_search"]) == 3


async def test_an_image_is_generated(ask: Any, script: Script) -> None:
    """The state contains the image as a data URL; the answer node only learns that there is one."""
    script.fields["intent"] = fields("image_generation")
    script.texts["image_generation"] = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PIXEL},
        {"type": "text", "text": "포스터입니다."},
    ]

    state = await ask("포스터 그려줘")

    assert state["images"] == [f"data:image/png;base64,{PIXEL}"]
    assert state["results"]["image_generation"]["text"] == "그림 1장을 만들어 사용자에게 보여 주었습니다. 포스터입니다."
    assert PIXEL not in str(script.requests["answer"])


async def test_a_refused_image_is_a_failed_result(ask: Any, script: Script) -> None:
    """The model's text becomes the failed result."""
    script.fields["intent"] = fields("image_generation")
    script.texts["image_generation"] = "그릴 수 없는 그림입니다."

    state = await ask("포스터 그려줘")

    assert state["images"] == []
    assert state["results"]["image_generation"] == {"text": "그릴 수 없는 그림입니다.", "failed": True, "sources": []}


PARTS = [
    ("waste", "weather", {"waste_rag"}),
    ("waste", "waste_rag", {"weather", "web_search"}),
    ("bulk_waste", "bulk_waste", {"weather"}),
    ("location", "location", {"web_search"}),
    ("location", "web_search", {"location"}),
]


@pytest.mark.parametrize(("intent", "failing", "others"), PARTS, ids=[f"{a}-{b}" for a, b, _ in PARTS])
async def test_a_model_that_fails_costs_its_branch_only(
    ask: Any, script: Script, records: Records, intent: str, failing: str, others: set[str]
) -> None:
    """The other branches answer, and the answer node learns what is missing."""
    script.fields["intent"] = fields(intent)
    script.errors[failing] = ("", RuntimeError("rate limit"))

    state = await ask("페트병 어떻게 버려?")

    failed = {name for name, result in state["results"].items() if result["failed"]}
    assert (failed, set(state["results"]) - failed) == ({failing}, others)
    assert "(실패)" in script.requests["answer"][0][0].text
    assert "rate limit" not in state["context"]
    assert records.request.status == "success"


async def test_the_only_branch_that_fails_fails_the_turn(ask: Any, script: Script) -> None:
    """Without another branch there is nothing to answer with."""
    script.fields["intent"] = fields("general")
    script.errors["general"] = ("", RuntimeError("rate limit"))

    with pytest.raises(RuntimeError, match="rate limit"):
        await ask("미세 플라스틱이 왜 문제야?")


async def test_an_answer_without_a_score_is_used(ask: Any, script: Script) -> None:
    """When the judge fails, the answer from the rules is as good as unscored: no search, no failure."""
    script.fields["intent"] = fields("waste")
    script.errors["feedback"] = ("", RuntimeError("rate limit"))

    state = await ask("페트병 어떻게 버려?")

    assert state["scores"] == {}
    assert set(state["results"]) == {"waste_rag", "weather"}


async def test_one_of_two_searches_is_enough(ask: Any, script: Script, records: Records) -> None:
    """A search that fails is left out; both are in the turn's records."""
    script.fields |= {"intent": fields("web_search"), "web_search": {"queries": ["하나", "둘"]}}
    script.errors["web_search"] = ("하나", RuntimeError("rate limit"))

    state = await ask("올해 바뀐 제도는?")

    assert state["results"]["web_search"]["text"] == "web_search의 답"
    assert [call.status for call in records.calls if call.node == "web_search"].count("error") == 1


async def test_a_search_fails_when_all_its_queries_do(ask: Any, script: Script) -> None:
    """The turn has no other branch, so it fails."""
    script.fields |= {"intent": fields("web_search"), "web_search": {"queries": ["하나", "둘"]}}
    script.errors["web_search"] = ("", RuntimeError("rate limit"))

    with pytest.raises(RuntimeError, match="rate limit"):
        await ask("올해 바뀐 제도는?")
