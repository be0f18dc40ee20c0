"""The providers' stand-in: the official models understand it, and the handler bills what it says it used."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from langchain_openai import ChatOpenAI
from openai import BadRequestError
from pydantic import BaseModel

from eco2_callbacks import Eco2CallbackHandler
from graph.cassette import record, replay
from graph.demo import QUESTIONS
from tests.support import scripts
from tests.support.call_paths import PATHS, SCRIPT
from tests.support.cassette_bills import billed, bills
from tests.support.parsed_request import Question, count
from tests.support.provider_standin import Pace, StandIn
from tests.support.record_sink import Records
from tests.support.scripted_answer import say
from tests.support.scripts import Answer, Line, answer


@pytest.mark.parametrize("name", PATHS)
async def test_a_call_is_billed_as_the_stand_in_says(
    name: str, tmp_path: Path, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Tokens are those of the answer, dollars what the published rates make of them, and a replay says the same."""
    path = tmp_path / "call.yaml"
    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
        said = await PATHS[name]({"callbacks": [handler]})
    recorded = [billed(call) for call in records.calls]
    records.all.clear()

    with replay(path) as playback:
        replayed = await PATHS[name]({"callbacks": [handler]})

    assert recorded == list(bills(path))
    assert [billed(call) for call in records.calls] == recorded
    assert replayed == said
    assert playback.unused == []


def test_the_synchronous_clients_are_served_too(tmp_path: Path, handler: Eco2CallbackHandler, records: Records) -> None:
    """``invoke`` and ``stream`` go over other transports than ``ainvoke``; they are recorded and replayed alike."""
    path = tmp_path / "call.yaml"

    def call() -> list[str]:
        model = ChatOpenAI(model="gpt-5.2", max_retries=0, stream_usage=True)
        config = {"callbacks": [handler]}
        return [model.invoke("캔은?", config).text, "".join(chunk.text for chunk in model.stream("병은?", config))]

    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
        said = call()
    with replay(path):
        replayed = call()

    assert said == replayed == [SCRIPT[-1].answer.text] * 2
    assert [billed(call) for call in records.calls] == [*bills(path)] * 2


def test_what_is_not_in_the_script_is_refused(tmp_path: Path) -> None:
    """A request without a line is an error that names it."""
    with (
        StandIn(()) as stand_in,
        pytest.raises(BadRequestError, match="Not rehearsed: node 'waste_rag', asked '캔은\\?'"),
        record(tmp_path / "call.yaml", upstream=stand_in.upstream),
    ):
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke([("system", "# waste_rag\n..."), ("user", "캔은?")])

    assert not (tmp_path / "call.yaml").exists()


def test_a_stream_comes_at_the_models_pace() -> None:
    """The first words come after the thinking, and the others one after the other."""
    body = {"contents": [{"role": "user", "parts": [{"text": QUESTIONS["waste"]}]}]}
    marked = {"systemInstruction": {"parts": [{"text": "# answer\n..."}]}, **body}
    path = "/v1beta/models/gemini-3-flash-preview:streamGenerateContent?alt=sse"

    with StandIn(pace=Pace(first_byte_seconds=0.05, token_seconds=0.002)) as stand_in:
        began = time.monotonic()
        with httpx.stream("POST", stand_in.url + path, json=marked, trust_env=False) as response:
            arrivals = [time.monotonic() - began for _ in response.iter_raw()]

    text = next(
        line.answer.text for line in scripts.SCRIPT if line.node == "answer" and line.said == QUESTIONS["waste"]
    )
    assert len(arrivals) > 3
    assert arrivals[0] >= 0.05 + 0.002 * count(text)  # it drafts before it writes
    assert arrivals[-1] - arrivals[0] >= 0.002 * count(text) / 2


def question(system: str = "", asked: str = "", **parts: object) -> Question:
    empty = {"model": "gpt-5.2", "functions": {}, "builtin": (), "schema": None, "images": 0, "reasons": False}
    return Question(system=system, messages=(("user", asked),), **{**empty, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize("intent", QUESTIONS)
def test_the_demo_is_scripted(intent: str) -> None:
    """Every message of the demo has its intent, and every intent its answer."""
    classified = answer(scripts.SCRIPT, question("# intent\n...", QUESTIONS[intent]))
    answered = answer(scripts.SCRIPT, question("# answer\n...", f"참고 자료...\n{QUESTIONS[intent]}"))

    assert classified is not None
    assert classified.fields["intent"] == intent
    assert answered is not None
    assert answered.text


def test_the_last_message_decides() -> None:
    """Examples in a prompt and earlier turns do not answer for what the user says now."""
    prompt = f"# intent\n예: {QUESTIONS['location']}\n예: {QUESTIONS['waste']}"

    found = answer(scripts.SCRIPT, question(prompt, QUESTIONS["general"]))

    assert found is not None
    assert found.fields["intent"] == "general"


class Wanted(BaseModel):
    """A schema whose fields are not all scripted."""

    intent: str
    weather: bool
    reasons: list[str]
    score: float


def test_an_answer_keeps_to_the_schema() -> None:
    """What the schema does not have is left out, what the script does not have is empty."""
    wanted = question("# intent\n...", QUESTIONS["waste"], schema=Wanted.model_json_schema())
    scripted = Answer(fields={"intent": "waste", "weather": True, "place": "서울"})

    said = say(wanted, scripted, cached_tokens=0, image_tokens=0, draws=False)

    assert Wanted.model_validate_json(said.text) == Wanted(intent="waste", weather=True, reasons=[], score=0)


def test_a_call_keeps_to_the_offered_function() -> None:
    """A function of another name is called with the arguments it has, and after its result comes the text."""
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    scripted = Answer(text="맑습니다.", calls=(("forecast", {"place": "서울", "region": "서울"}),))
    asked = question(functions={"get_weather": schema})
    told = Question(**{**asked.__dict__, "messages": (*asked.messages, ("tool", "맑음"))})

    first = say(asked, scripted, cached_tokens=0, image_tokens=0, draws=False)
    second = say(told, scripted, cached_tokens=0, image_tokens=0, draws=False)

    assert (first.calls, first.text) == ((("get_weather", {"place": "서울"}),), "")
    assert (second.calls, second.text) == ((), "맑습니다.")


def test_a_line_may_ask_for_a_tool_and_a_model() -> None:
    """Lines are told apart by what is offered, too."""
    lines = (Line(Answer(text="a"), tool="web_search"), Line(Answer(text="b"), model="gemini"), Line(Answer(text="c")))

    said = [
        answer(lines, question(builtin=("web_search",))),
        answer(lines, question(model="gemini-3-flash-preview")),
        answer(lines, question()),
    ]

    assert [found.text for found in said if found] == ["a", "b", "c"]
