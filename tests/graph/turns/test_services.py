"""Nodes that call services: tool calls, results and failures."""

from __future__ import annotations

import json
from typing import Any

import pytest

from graph.clients import (
    BulkWaste,
    Fee,
    Kma,
    ServiceAnswerError,
    ServiceRefused,
    ServiceUnavailable,
    ServiceUnconfigured,
)
from tests.support.fake_graph import FakeServices, Script, fields
from tests.support.record_sink import Records

FORECAST = ("forecast", {"latitude": 37.5, "longitude": 127.0})

CALLS = [
    ("location", ("search_places", {"query": "수거함", "near": "강남역"}), "search", "장소 정보"),
    ("bulk_waste", ("bulk_waste_fees", {"item": "소파", "district": "강남구"}), "fees", "대형 폐기물 수수료"),
    ("recyclable_price", ("recyclable_prices", {"item": "PET"}), "prices", "재활용품 시세"),
    (
        "collection_point",
        ("collection_points", {"kind": "폐휴대폰", "region": "서울특별시 강남구"}),
        "collection_points",
        "수거처 정보",
    ),
    ("weather", FORECAST, "forecast", "날씨 정보"),
]


@pytest.mark.parametrize(("node", "call", "method", "what"), CALLS, ids=[node for node, *_ in CALLS])
async def test_the_model_chooses_the_service_call(
    ask: Any, script: Script, services: FakeServices, node: str, call: Any, method: str, what: str
) -> None:
    """The model's arguments reach the client, and the client's answer reaches the model."""
    script.fields["intent"] = fields("general" if node == "weather" else node, weather=node == "weather")
    script.calls[node] = [call]

    state = await ask("알려줘")

    (first, second) = script.requests[node]
    assert method in {called for called, _, _ in services.calls}
    assert [message.type for message in second[len(first) :]] == ["ai", "tool"]
    assert '"results": [{' in second[-1].text
    assert state["results"][node] == {
        "text": f"{node}의 답",
        "failed": False,
        "sources": state["results"][node]["sources"],
    }


async def test_places_are_searched_around_the_named_place(ask: Any, script: Script, services: FakeServices) -> None:
    """The tool first finds the named place, then searches around it."""
    script.fields["intent"] = fields("location")
    script.calls["location"] = [CALLS[0][1]]

    await ask("강남역 근처 페트병 분리수거함 어디있어?")

    assert services.calls == [
        ("search", ("강남역",), {"size": 1}),
        ("search", ("수거함",), {"near": (37.498, 127.0276), "radius_meters": 3000}),
    ]


ERRORS = [
    (ServiceUnavailable, "서비스가 지금 응답하지 않습니다."),
    (ServiceRefused, "서비스가 요청을 받아들이지 않았습니다."),
    (ServiceAnswerError, "서비스가 알아볼 수 없는 답을 보냈습니다."),
    (ServiceUnconfigured, "서비스가 설정되어 있지 않습니다."),
]


@pytest.mark.parametrize(("node", "call", "method", "what"), CALLS, ids=[node for node, *_ in CALLS])
@pytest.mark.parametrize(("error", "why"), ERRORS, ids=[error.__name__ for error, _ in ERRORS])
async def test_a_failed_service_does_not_fail_the_request(
    ask: Any,
    script: Script,
    services: FakeServices,
    records: Records,
    node: str,
    call: Any,
    method: str,
    what: str,
    error: Any,
    why: str,
) -> None:
    """The result names the failure without operator details, and the other branches still succeed."""
    script.fields["intent"] = fields("general" if node == "weather" else node, weather=True)
    script.calls = {"weather": [FORECAST], node: [call]}
    services.errors[method] = error("Service", "secret details for the operator.")

    state = await ask("알려줘")

    result = state["results"][node]
    assert result == {"text": f"{what}를 가져오지 못했습니다: {why}", "failed": True, "sources": []}
    assert "(실패)\n" + result["text"] in script.requests["answer"][0][0].text
    assert "secret" not in state["context"]
    assert [name for name, other in state["results"].items() if other["failed"]] == [node]
    assert len(state["results"]) > 1
    assert records.request.status == "success"


async def test_a_failed_character_service_is_a_failed_result(ask: Any, script: Script, services: FakeServices) -> None:
    """A gRPC failure gives the user the same text as an HTTP failure."""
    script.fields["intent"] = fields("character")
    services.errors["character"] = ServiceUnavailable("Character service", "down")

    state = await ask("페트병 캐릭터 뽑아줘")

    assert (
        state["results"]["character"]["text"] == "캐릭터 정보를 가져오지 못했습니다: 서비스가 지금 응답하지 않습니다."
    )


@pytest.mark.parametrize(
    ("item", "names"), [("페트병", ["페티"]), ("", ["페티", "캐니"]), ("우주선", ["페티", "캐니"])]
)
async def test_a_character_represents_a_waste(ask: Any, script: Script, item: str, names: list[str]) -> None:
    """The result is the matching character, or all characters without a match."""
    script.fields |= {"intent": fields("character"), "character": {"item": item}}

    text = (await ask("캐릭터"))["results"]["character"]["text"]

    assert [line.split(" (")[0] for line in text.splitlines()[1:]] == names


async def test_wrong_arguments_go_back_to_the_model(ask: Any, script: Script, services: FakeServices) -> None:
    """The model gets the error and may correct the call. An unknown tool is an error too."""
    script.fields["intent"] = fields("bulk_waste")
    good = CALLS[1][1]
    script.calls["bulk_waste"] = [("bulk_waste_fees", {"item": "소파"}), ("unknown", {}), good]

    state = await ask("소파 얼마야?")

    assert [message.status for message in script.requests["bulk_waste"][-1] if message.type == "tool"] == [
        "error",
        "error",
        "success",
    ]
    assert not state["results"]["bulk_waste"]["failed"]


async def test_the_rounds_of_tool_calls_are_limited(ask: Any, script: Script, services: FakeServices) -> None:
    """After three rounds, the model answers without tools."""
    script.fields["intent"] = fields("bulk_waste")
    script.calls["bulk_waste"] = [CALLS[1][1]] * 9

    state = await ask("소파 얼마야?")

    assert len([called for called, *_ in services.calls if called == "fees"]) == 3
    assert state["results"]["bulk_waste"]["text"] == "bulk_waste의 답"


UNANSWERABLE = [
    ("bulk_waste", "bulk_waste_fees", {"item": "소파", "district": " "}, "ask where the waste is"),
    ("weather", "forecast", {"latitude": 35.68, "longitude": 139.77}, "wanted a place in Korea"),
]


@pytest.mark.parametrize(("node", "tool", "arguments", "why"), UNANSWERABLE, ids=["without_district", "outside_korea"])
async def test_arguments_without_an_answer_go_back_to_the_model(
    ask: Any, script: Script, monkeypatch: pytest.MonkeyPatch, node: str, tool: str, arguments: Any, why: str
) -> None:
    """The model learns why, and can ask the user. The branch does not say that a service failed."""
    monkeypatch.setattr(BulkWaste, "from_env", lambda: BulkWaste(key="k"))
    monkeypatch.setattr(Kma, "from_env", lambda: Kma(key="k"))
    script.fields["intent"] = fields("general" if node == "weather" else node, weather=node == "weather")
    script.calls = {node: [(tool, arguments)]}

    state = await ask("알려줘")

    answer = script.requests[node][-1][-1]
    assert (answer.type, answer.status, why in answer.text) == ("tool", "error", True)
    assert state["results"][node]["text"] == f"{node}의 답"


async def test_a_long_price_list_says_that_it_is_cut(
    ask: Any, script: Script, services: FakeServices, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model gets the cheapest twelve fees, and how many it does not see."""
    rows = tuple(Fee(district="중구", item=f"의자 {number}", fee_won=1000 * number) for number in range(15))

    async def fees(item: str, **where: str) -> tuple[Fee, ...]:
        return rows

    monkeypatch.setattr(services, "fees", fees)
    script.fields["intent"] = fields("bulk_waste")
    script.calls["bulk_waste"] = [("bulk_waste_fees", {"item": "의자", "district": "중구"})]

    await ask("의자 얼마야?")

    answer = json.loads(script.requests["bulk_waste"][-1][-1].text)
    assert (answer["left_out"], len(answer["results"])) == (3, 12)
