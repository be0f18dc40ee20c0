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
