"""Conversations: images, threads, summaries and streaming."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from eco2_callbacks import Eco2CallbackHandler, GraphRun, NodeRun, run_config
from graph import build_graph
from graph.errors import EmptyAnswerError
from graph.routing import BRANCHES
from graph.state import turn
from tests.support.fake_graph import PIXEL, Script, fields
from tests.support.record_sink import Records


async def test_vision_runs_before_all_other_nodes(ask: Any, script: Script, records: Records) -> None:
    """The classifier and the branches know the image's content; the image is not in the turn's final state."""
    script.fields |= {
        "intent": fields("waste"),
        "vision": {"item": "건전지", "material": "금속", "condition": "새지 않음"},
    }
    url = f"data:image/png;base64,{PIXEL}"

    state = await ask("이거 어떻게 버려?", image=url)

    assert records.nodes["vision"].step < records.nodes["intent"].step
    assert script.requests["vision"][0][1].content[1] == {"type": "image_url", "image_url": {"url": url}}
    assert "건전지, 재질 금속" in script.requests["intent"][0][-1].text
    assert "- 건전지 (" in script.requests["waste_rag"][0][0].text
    assert (state["image"], state["vision"]["item"]) == ("", "건전지")
    assert url not in str(state["messages"])


async def test_an_image_belongs_to_one_turn(ask: Any, script: Script) -> None:
    """The next turn has no image, but the history keeps its description."""
    script.fields |= {"intent": fields("waste"), "vision": {"item": "건전지", "material": "금속", "condition": "좋음"}}

    await ask("", image=f"data:image/png;base64,{PIXEL}")
    state = await ask("고마워")

    assert state["vision"] is None
    assert len(script.requests["vision"]) == 1
    assert "첨부 사진: 건전지" in state["messages"][0].text
    assert "첨부 사진" not in state["messages"][2].text


async def test_a_thread_continues_its_conversation(ask: Any, script: Script) -> None:
    """A second turn has the history of its thread without the old results. Another thread has neither."""
    script.fields["intent"] = fields("waste")
    await ask("페트병 어떻게 버려?")
    script.fields["intent"] = fields("general")

    second = await ask("고마워")
    other = await ask("누구세요", session_id="other")

    assert [type(message) for message in second["messages"]] == [HumanMessage, AIMessage] * 2
    assert second["messages"][0].text == "페트병 어떻게 버려?"
    assert [message.text for message in script.requests["general"][0][1:]] == [
        "페트병 어떻게 버려?",
        "answer의 답 ",
        "고마워",
    ]
    assert set(second["results"]) == {"general"}
    assert (second["scores"], second["images"]) == ({}, [])
    assert len(other["messages"]) == 2


async def test_a_long_conversation_is_summarized(
    script: Script, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Above the limit, a summary replaces the old turns, and later turns see it."""
    script.fields["intent"] = fields("general")
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=55)
    config = run_config(handler, job_id=1, session_id="s")

    first: Any = await graph.ainvoke(turn("가" * 20), config)
    second: Any = await graph.ainvoke(turn("나" * 30), config)
    third: Any = await graph.ainvoke(turn("다"), config)

    assert "summary" not in first
    assert second["summary"] == third["summary"] == "summarize의 답"
    assert [message.text for message in second["messages"]] == ["나" * 30, "answer의 답 "]
    assert "사용자: " + "가" * 20 in script.requests["summarize"][0][1].text
    assert "나" * 30 not in script.requests["summarize"][0][1].text
    assert "# 지금까지의 대화 요약\n\nsummarize의 답" in script.requests["general"][2][0].text
    assert [run.node for run in records.of(NodeRun)].count("summarize") == 1


async def test_a_summary_includes_the_previous_one(script: Script) -> None:
    """A new summary includes the previous one."""
    script.fields["intent"] = fields("general")
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=1)
    config: Any = {"configurable": {"thread_id": "s"}}

    for message in ("하나", "둘", "셋"):
        await graph.ainvoke(turn(message), config)

    assert script.requests["summarize"][1][1].text.startswith("이전 요약: summarize의 답\n\n사용자: 둘\n")


@pytest.mark.parametrize("text", [None, " "], ids=["failed", "empty"])
async def test_a_conversation_without_a_summary_stays(script: Script, text: str | None) -> None:
    """The user has the answer when the summary fails or is empty: the turn succeeds, and the next one tries again."""
    script.fields["intent"] = fields("general")
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=1)
    config: Any = {"configurable": {"thread_id": "s"}}
    if text is None:
        script.errors["summarize"] = ("", RuntimeError("rate limit"))
    else:
        script.texts["summarize"] = text

    await graph.ainvoke(turn("하나"), config)
    second: Any = await graph.ainvoke(turn("둘"), config)
    script.errors.clear()
    script.texts.clear()
    third: Any = await graph.ainvoke(turn("셋"), config)

    assert ("summary" in second, [message.text for message in second["messages"][::2]]) == (False, ["하나", "둘"])
    assert (third["summary"], [message.text for message in third["messages"][::2]]) == ("summarize의 답", ["셋"])


async def test_the_answer_streams(script: Script) -> None:
    """The answer's words arrive one by one."""
    script.fields["intent"] = fields("greeting")

    chunks = [
        message.text
        async for message, metadata in build_graph().astream(turn("안녕!"), stream_mode="messages")
        if metadata["langgraph_node"] == "answer"
    ]

    assert [chunk for chunk in chunks if chunk][:2] == ["answer의 ", "답 "]


@pytest.mark.parametrize("intent", ["greeting", "waste", "location"])
@pytest.mark.parametrize("stopped_in", ["feedback", "web_search"])
async def test_a_turn_after_a_stopped_one_is_answered_once(
    ask: Any, script: Script, records: Records, stopped_in: str, intent: str
) -> None:
    """A turn that is cancelled after its first results leaves nothing behind that writes a second answer."""
    script.fields |= {"intent": fields("waste"), "feedback": {"score": 0.1}}
    script.barrier = {stopped_in, "another"}

    stopped = asyncio.create_task(ask("페트병 어떻게 버려?"))
    while stopped_in not in script.arrived:
        await asyncio.sleep(0.01)
    stopped.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopped
    script.barrier = set()
    script.fields["intent"] = fields(intent)
    state = await ask("다음 질문")

    assert [message.text for message in state["messages"]] == ["다음 질문", "answer의 답 "]
    assert len(script.requests["answer"]) == 1
    assert set(state["results"]) >= set(BRANCHES[intent])  # type: ignore[index]
    assert [run.status for run in records.of(GraphRun)] == ["cancelled", "success"]


async def test_a_turn_without_an_answer_fails(ask: Any, script: Script) -> None:
    """A model that a filter stopped writes nothing: that is no answer, and the conversation goes on without it."""
    script.fields["intent"] = fields("greeting")
    script.texts["answer"] = ""

    with pytest.raises(EmptyAnswerError, match="ended without a text"):
        await ask("하나")
    script.texts.clear()
    state = await ask("둘")

    assert [message.text for message in state["messages"]] == ["둘", "answer의 답 "]
