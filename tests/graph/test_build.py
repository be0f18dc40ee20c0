"""The graph: its nodes, and what happens to each intent, on scripted models and services."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.checkpoint.memory import InMemorySaver

from eco2_callbacks import Eco2CallbackHandler, NodeRun, run_config
from graph import build_graph, models
from graph.clients.bulk_waste import BulkWaste
from graph.clients.character import Characters
from graph.clients.errors import ServiceAnswerError, ServiceRefused, ServiceUnavailable, ServiceUnconfigured
from graph.clients.kakao import Kakao
from graph.clients.keco import Keco
from graph.clients.kma import Kma
from graph.clients.recyclable_price import RecyclablePrices
from graph.errors import GraphConfigError
from graph.state import State, turn
from tests.support.fake_graph import PIXEL, FakeServices, Script, ScriptedModel, fields
from tests.support.record_sink import Records

ROOT = Path(__file__).parent.parent.parent
NODES = sorted(path for path in (ROOT / "graph" / "nodes").glob("*.py") if path.stem != "__init__")
WITHOUT_MODEL = {"router", "aggregator"}
FORECAST = ("forecast", {"latitude": 37.5, "longitude": 127.0})
ALWAYS = ("intent", "router", "aggregator", "answer")


@pytest.fixture
def script() -> Script:
    return Script(
        fields={"feedback": {"score": 0.9}, "web_search": {"queries": ["무엇"]}, "character": {"item": "페트병"}}
    )


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    services = FakeServices()
    for client in (BulkWaste, Characters, Kakao, Keco, Kma, RecyclablePrices):
        monkeypatch.setattr(client, "from_env", lambda: services)
    return services


@pytest.fixture(autouse=True)
def scripted(script: Script, services: FakeServices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "chat", lambda node, **options: ScriptedModel(node=node, script=script))


@pytest.fixture
def ask(handler: Eco2CallbackHandler) -> Any:
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=100_000)

    async def ask(message: str, *, image: str = "", session_id: str = "s") -> State:
        config = run_config(handler, job_id=1, session_id=session_id)
        return await graph.ainvoke(turn(message, image=image), config)  # type: ignore[return-value]

    return ask


def test_a_node_s_name_is_its_file_s() -> None:
    """The name in the graph, the file's and the function's are one, seventeen times."""
    nodes = build_graph().nodes.keys() - {"__start__"}

    assert len(nodes) == 17
    assert nodes == {path.stem for path in NODES}
    for path in NODES:
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert [name for name in functions if not name.startswith("_")] == [path.stem]


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.stem)
def test_a_node_knows_nothing_of_telemetry(path: Path) -> None:
    """Nodes are measured from outside: no file of theirs names the library or what it reports to, in any form."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    named = set(_imports(tree)) | {node.value for node in ast.walk(tree) if _is_text(node)}  # importlib's too

    assert not {name.split(".")[0] for name in named} & {"eco2_callbacks", "prometheus_client", "langsmith"}
    assert not {name for name in named if name.startswith("graph.app")}


@pytest.mark.parametrize("node", sorted({path.stem for path in NODES} - WITHOUT_MODEL))
def test_a_node_s_prompt_begins_with_its_name(node: str) -> None:
    """In Korean, one file for each node that talks to a model."""
    text = (ROOT / "graph" / "prompts" / f"{node}.txt").read_text(encoding="utf-8")

    assert text.startswith(f"# {node}\n\n")
    assert any("가" <= sign <= "힣" for sign in text)


def test_the_topology() -> None:
    """Every edge, as drawn."""
    drawn = build_graph().get_graph()
    branches = ("bulk_waste", "character", "collection_point", "general", "image_generation", "location")
    branches += ("recyclable_price", "waste_rag", "weather", "web_search")

    assert {(edge.source, edge.target) for edge in drawn.edges} == {
        ("__start__", "intent"),
        ("__start__", "vision"),
        ("vision", "intent"),
        ("intent", "router"),
        *(("router", branch) for branch in branches),
        *((branch, "aggregator") for branch in branches if branch != "waste_rag"),
        ("waste_rag", "feedback"),
        ("feedback", "aggregator"),
        ("feedback", "web_search"),
        ("aggregator", "answer"),
        ("answer", "summarize"),
        ("answer", "__end__"),
        ("summarize", "__end__"),
    }


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


@pytest.mark.parametrize(("intent", "branches", "then"), INTENTS, ids=[intent for intent, _, _ in INTENTS])
async def test_an_intent_s_branches_run_and_are_joined(
    ask: Any, script: Script, records: Records, intent: str, branches: tuple[str, ...], then: tuple[str, ...]
) -> None:
    """Exactly its nodes run, each once; the branches side by side; the answer is given all they found."""
    script.fields["intent"] = fields(intent)
    script.texts["image_generation"] = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PIXEL},
        {"type": "text", "text": "포스터입니다."},
    ]
    if len(branches) > 1:
        script.meet = set(branches)

    state = await ask("페트병?")

    runs = records.nodes
    assert set(runs) == {*ALWAYS, *branches, *then}
    assert {runs[node].step for node in branches} == {runs["router"].step + 1}
    assert {node for node in runs if runs[node].parallel} == (set(branches) if len(branches) > 1 else set())
    assert records.request.intent == intent
    assert set(state["results"]) == set(branches)
    assert not any(result["failed"] for result in state["results"].values())
    shown = script.asked["answer"][0][0].text
    assert shown.count("\n## ") == len(branches)
    for branch in branches:
        assert state["results"][branch]["text"] in shown
    assert state["answer"].strip() == "answer의 답"


async def test_the_weather_rides_along_when_asked_for(ask: Any, script: Script, records: Records) -> None:
    """Beside any intent, and in one answer."""
    script.fields["intent"] = fields("general", weather=True, place="부산")
    script.meet = {"general", "weather"}

    state = await ask("오늘 부산 날씨 어때?")

    assert set(state["results"]) == {"general", "weather"}
    assert (state["weather"], state["place"]) == (True, "부산")
    assert records.nodes["weather"].parallel


async def test_a_poor_answer_goes_to_the_web(ask: Any, script: Script, records: Records) -> None:
    """Below the threshold the web is searched too, and the score is told."""
    script.fields |= {"intent": fields("waste"), "feedback": {"score": 0.3}}

    state = await ask("페트병 어떻게 버려?")

    assert state["scores"] == {"rag_quality": 0.3}
    assert set(state["results"]) == {"waste_rag", "weather", "web_search"}
    assert [run.node for run in records.of(NodeRun)].count("aggregator") == 1


async def test_nothing_found_goes_to_the_web_unjudged(ask: Any, script: Script) -> None:
    """Without a passage no model is asked for an answer, nor for its score."""
    script.fields["intent"] = fields("waste")

    state = await ask("qzx?")

    assert "waste_rag" not in script.asked
    assert "feedback" not in script.asked
    assert state["scores"] == {"rag_quality": 0.0}
    assert state["results"]["waste_rag"]["failed"]
    assert not state["results"]["web_search"]["failed"]


@pytest.mark.parametrize(("said", "score"), [(1.7, 1.0), (-3, 0.0)])
async def test_a_score_stays_within_its_bounds(ask: Any, script: Script, said: float, score: float) -> None:
    """Whatever the model says, it is a ratio."""
    script.fields |= {"intent": fields("waste"), "feedback": {"score": said}}

    assert (await ask("페트병 어떻게 버려?"))["scores"] == {"rag_quality": score}


async def test_the_answer_rests_on_the_rules(ask: Any, script: Script) -> None:
    """The model is shown the passages that were found, and their sources are named."""
    script.fields["intent"] = fields("waste")

    state = await ask("아이스팩 버리는 법 알려줘")

    assert "- 아이스팩 (비닐류와 스티로폼): " in script.asked["waste_rag"][0][0].text
    assert state["results"]["waste_rag"]["sources"][0].startswith("환경부")
    assert "출처: 환경부" in state["context"]


async def test_a_picture_is_looked_at_before_anything_else(ask: Any, script: Script, records: Records) -> None:
    """The classifier and the branches know what is on it; the picture itself is not kept."""
    script.fields |= {
        "intent": fields("waste"),
        "vision": {"item": "건전지", "material": "금속", "condition": "새지 않음"},
    }
    url = f"data:image/png;base64,{PIXEL}"

    state = await ask("이거 어떻게 버려?", image=url)

    assert records.nodes["vision"].step < records.nodes["intent"].step
    assert script.asked["vision"][0][1].content[1] == {"type": "image_url", "image_url": {"url": url}}
    assert "건전지, 재질 금속" in script.asked["intent"][0][-1].text
    assert "- 건전지 (" in script.asked["waste_rag"][0][0].text
    assert (state["image"], state["vision"]["item"]) == ("", "건전지")
    assert url not in str(state["messages"])


async def test_a_picture_is_forgotten_with_its_turn(ask: Any, script: Script) -> None:
    """The next turn is not asked of the last one's picture, but the conversation remembers it."""
    script.fields |= {"intent": fields("waste"), "vision": {"item": "건전지", "material": "금속", "condition": "좋음"}}

    await ask("", image=f"data:image/png;base64,{PIXEL}")
    state = await ask("고마워")

    assert state["vision"] is None
    assert len(script.asked["vision"]) == 1
    assert "첨부 사진: 건전지" in state["messages"][0].text
    assert "첨부 사진" not in state["messages"][2].text


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
async def test_the_model_chooses_what_a_service_is_asked(
    ask: Any, script: Script, services: FakeServices, node: str, call: Any, method: str, what: str
) -> None:
    """Its arguments reach the client, and the client's answer the model, which words it."""
    script.fields["intent"] = fields("general" if node == "weather" else node, weather=node == "weather")
    script.calls[node] = [call]

    state = await ask("알려줘")

    (first, second) = script.asked[node]
    assert method in {asked for asked, _, _ in services.asked}
    assert [message.type for message in second[len(first) :]] == ["ai", "tool"]
    assert '"results": [{' in second[-1].text
    assert state["results"][node] == {
        "text": f"{node}의 답",
        "failed": False,
        "sources": state["results"][node]["sources"],
    }


async def test_places_are_searched_around_the_place_named(ask: Any, script: Script, services: FakeServices) -> None:
    """First where it is, then what is there."""
    script.fields["intent"] = fields("location")
    script.calls["location"] = [CALLS[0][1]]

    await ask("강남역 근처 페트병 분리수거함 어디있어?")

    assert services.asked == [
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
async def test_a_failing_service_is_said_and_the_rest_goes_on(
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
    """The node says so, the answer is told, and the other branches have their say."""
    script.fields["intent"] = fields("general" if node == "weather" else node, weather=True)
    script.calls = {"weather": [FORECAST], node: [call]}
    services.fails[method] = error("Service", "secret words of the operator's.")

    state = await ask("알려줘")

    result = state["results"][node]
    assert result == {"text": f"{what}를 가져오지 못했습니다: {why}", "failed": True, "sources": []}
    assert "(실패)\n" + result["text"] in script.asked["answer"][0][0].text
    assert "secret" not in state["context"]
    assert [name for name, other in state["results"].items() if other["failed"]] == [node]
    assert len(state["results"]) > 1
    assert records.request.status == "success"


async def test_a_failing_character_service_is_said(ask: Any, script: Script, services: FakeServices) -> None:
    """gRPC or HTTP, to the user it is the same."""
    script.fields["intent"] = fields("character")
    services.fails["character"] = ServiceUnavailable("Character service", "down")

    state = await ask("페트병 캐릭터 뽑아줘")

    assert (
        state["results"]["character"]["text"] == "캐릭터 정보를 가져오지 못했습니다: 서비스가 지금 응답하지 않습니다."
    )


@pytest.mark.parametrize(
    ("item", "names"), [("페트병", ["페티"]), ("", ["페티", "캐니"]), ("우주선", ["페티", "캐니"])]
)
async def test_a_character_stands_for_a_waste(ask: Any, script: Script, item: str, names: list[str]) -> None:
    """Who stands for it, or all there are."""
    script.fields |= {"intent": fields("character"), "character": {"item": item}}

    text = (await ask("캐릭터"))["results"]["character"]["text"]

    assert [line.split(" (")[0] for line in text.splitlines()[1:]] == names


async def test_wrong_arguments_go_back_to_the_model(ask: Any, script: Script, services: FakeServices) -> None:
    """It may correct them; a tool that is not there is an answer too."""
    script.fields["intent"] = fields("bulk_waste")
    good = CALLS[1][1]
    script.calls["bulk_waste"] = [("bulk_waste_fees", {"item": "소파"}), ("unknown", {}), good]

    state = await ask("소파 얼마야?")

    assert [message.status for message in script.asked["bulk_waste"][-1] if message.type == "tool"] == [
        "error",
        "error",
        "success",
    ]
    assert not state["results"]["bulk_waste"]["failed"]


async def test_a_model_that_calls_for_ever_is_cut_short(ask: Any, script: Script, services: FakeServices) -> None:
    """After three rounds it has to answer without tools."""
    script.fields["intent"] = fields("bulk_waste")
    script.calls["bulk_waste"] = [CALLS[1][1]] * 9

    state = await ask("소파 얼마야?")

    assert len([asked for asked, *_ in services.asked if asked == "fees"]) == 3
    assert state["results"]["bulk_waste"]["text"] == "bulk_waste의 답"


async def test_the_web_is_searched_for_each_question_planned(ask: Any, script: Script, records: Records) -> None:
    """Two at most, side by side, their citations as sources, each once."""
    script.fields |= {"intent": fields("web_search"), "web_search": {"queries": ["하나", "둘", "셋"]}}
    cited = [{"type": "url_citation", "url": "https://me.go.kr", "title": "t", "start_index": 0, "end_index": 1}]
    script.texts["web_search"] = [{"type": "text", "text": "찾았습니다.", "annotations": cited}]

    state = await ask("올해 바뀐 제도는?")

    assert [messages[-1].text for messages in script.asked["web_search"]] == ["올해 바뀐 제도는?", "하나", "둘"]
    assert state["results"]["web_search"]["sources"] == ["https://me.go.kr"]
    assert len([call for call in records.calls if call.node == "web_search"]) == 3


async def test_a_picture_is_made(ask: Any, script: Script) -> None:
    """As a data URL in the state; the answer only hears of it."""
    script.fields["intent"] = fields("image_generation")
    script.texts["image_generation"] = [
        {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": PIXEL},
        {"type": "text", "text": "포스터입니다."},
    ]

    state = await ask("포스터 그려줘")

    assert state["images"] == [f"data:image/png;base64,{PIXEL}"]
    assert state["results"]["image_generation"]["text"] == "그림 1장을 만들어 사용자에게 보여 주었습니다. 포스터입니다."
    assert PIXEL not in str(script.asked["answer"])


async def test_a_picture_that_was_not_made_is_said(ask: Any, script: Script) -> None:
    """The model's own words say why."""
    script.fields["intent"] = fields("image_generation")
    script.texts["image_generation"] = "그릴 수 없는 그림입니다."

    state = await ask("포스터 그려줘")

    assert state["images"] == []
    assert state["results"]["image_generation"] == {"text": "그릴 수 없는 그림입니다.", "failed": True, "sources": []}


async def test_a_conversation_goes_on_by_its_thread(ask: Any, script: Script) -> None:
    """The second turn knows the first, begins without its results, and another thread knows neither."""
    script.fields["intent"] = fields("waste")
    await ask("페트병 어떻게 버려?")
    script.fields["intent"] = fields("general")

    second = await ask("고마워")
    other = await ask("누구세요", session_id="other")

    assert [type(message) for message in second["messages"]] == [HumanMessage, AIMessage] * 2
    assert second["messages"][0].text == "페트병 어떻게 버려?"
    assert [message.text for message in script.asked["general"][0][1:]] == [
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
    """Above the limit the old turns become a summary, which later turns are shown, and the last turn stays."""
    script.fields["intent"] = fields("general")
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=55)
    config = run_config(handler, job_id=1, session_id="s")

    first: Any = await graph.ainvoke(turn("가" * 20), config)
    second: Any = await graph.ainvoke(turn("나" * 30), config)
    third: Any = await graph.ainvoke(turn("다"), config)

    assert "summary" not in first
    assert second["summary"] == third["summary"] == "summarize의 답"
    assert [message.text for message in second["messages"]] == ["나" * 30, "answer의 답 "]
    assert "사용자: " + "가" * 20 in script.asked["summarize"][0][1].text
    assert "나" * 30 not in script.asked["summarize"][0][1].text
    assert "# 지금까지의 대화 요약\n\nsummarize의 답" in script.asked["general"][2][0].text
    assert [run.node for run in records.of(NodeRun)].count("summarize") == 1


async def test_a_summary_takes_up_the_one_before(script: Script) -> None:
    """Nothing is forgotten twice over."""
    script.fields["intent"] = fields("general")
    graph = build_graph(checkpointer=InMemorySaver(), summarize_tokens=1)
    config: Any = {"configurable": {"thread_id": "s"}}

    for message in ("하나", "둘", "셋"):
        await graph.ainvoke(turn(message), config)

    assert script.asked["summarize"][1][1].text.startswith("이전 요약: summarize의 답\n\n사용자: 둘\n")


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_wrong_limit_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The message says what came and what was wanted."""
    monkeypatch.setenv("ECO2_SUMMARIZE_TOKENS", value)

    with pytest.raises(GraphConfigError) as error:
        build_graph()

    assert str(error.value) == f"ECO2_SUMMARIZE_TOKENS is {value!r}, wanted a whole number above 0; correct it."


async def test_the_answer_streams(script: Script) -> None:
    """Its words arrive one by one."""
    script.fields["intent"] = fields("greeting")

    chunks = [
        message.text
        async for message, metadata in build_graph().astream(turn("안녕!"), stream_mode="messages")
        if metadata["langgraph_node"] == "answer"
    ]

    assert [chunk for chunk in chunks if chunk][:2] == ["answer의 ", "답 "]


def _imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
