"""The providers' stand-in: the official models understand it, and the handler bills its usage."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pytest
from langchain_openai import ChatOpenAI
from openai import BadRequestError
from pydantic import BaseModel

from eco2_callbacks import Eco2CallbackHandler
from graph.cli import CONVERSATIONS, QUESTIONS
from graph.replay import record, replay
from tests.support import scripts
from tests.support.call_paths import PATHS, SCRIPT
from tests.support.cassette_bills import bill_of_call, bills_of_cassette
from tests.support.parsed_request import ParsedRequest, count_tokens
from tests.support.provider_standin import Pace, StandIn
from tests.support.record_sink import Records
from tests.support.scripted_answer import fit_answer
from tests.support.scripts import Answer, Line, answer


@pytest.mark.parametrize("name", PATHS)
async def test_a_call_is_billed_as_the_stand_in_says(
    name: str, tmp_path: Path, handler: Eco2CallbackHandler, records: Records
) -> None:
    """The bill follows the answer's usage and the published prices, and a replay has the same bill."""
    path = tmp_path / "call.yaml"
    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
        answers = await PATHS[name]({"callbacks": [handler]})
    recorded = [bill_of_call(call) for call in records.calls]
    records.all.clear()

    with replay(path) as playback:
        replayed = await PATHS[name]({"callbacks": [handler]})

    assert recorded == list(bills_of_cassette(path))
    assert [bill_of_call(call) for call in records.calls] == recorded
    assert replayed == answers
    assert playback.unused == []


def test_the_synchronous_clients_are_served_too(tmp_path: Path, handler: Eco2CallbackHandler, records: Records) -> None:
    """``invoke`` and ``stream`` use other transports than ``ainvoke``, with the same result."""
    path = tmp_path / "call.yaml"

    def call() -> list[str]:
        model = ChatOpenAI(model="gpt-5.2", max_retries=0, stream_usage=True)
        config = {"callbacks": [handler]}
        return [model.invoke("캔은?", config).text, "".join(chunk.text for chunk in model.stream("병은?", config))]

    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
        answers = call()
    with replay(path):
        replayed = call()

    assert answers == replayed == [SCRIPT[-1].answer.text] * 2
    assert [bill_of_call(call) for call in records.calls] == [*bills_of_cassette(path)] * 2


def test_a_request_without_a_line_is_refused(tmp_path: Path) -> None:
    """The error names the request without a line."""
    with (
        StandIn(()) as stand_in,
        pytest.raises(BadRequestError, match="No line matches node 'waste_rag', user text '캔은\\?'"),
        record(tmp_path / "call.yaml", upstream=stand_in.upstream),
    ):
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke([("system", "# waste_rag\n..."), ("user", "캔은?")])

    assert not (tmp_path / "call.yaml").exists()


def test_a_stream_has_the_pace_of_the_model() -> None:
    """The first chunk follows the reasoning, and the others arrive one after another."""
    body = {"contents": [{"role": "user", "parts": [{"text": QUESTIONS["waste"]}]}]}
    marked = {"systemInstruction": {"parts": [{"text": "# answer\n..."}]}, **body}
    path = "/v1/models/gemini-3-flash-preview:streamGenerateContent?alt=sse"

    with StandIn(pace=Pace(first_byte_seconds=0.05, token_seconds=0.002)) as stand_in:
        began = time.monotonic()
        with httpx.stream("POST", stand_in.url + path, json=marked, trust_env=False) as response:
            arrivals = [time.monotonic() - began for _ in response.iter_raw()]

    text = next(
        line.answer.text for line in scripts.SCRIPT if line.node == "answer" and line.contains == QUESTIONS["waste"]
    )
    assert len(arrivals) > 3
    seconds = 0.002 * count_tokens(text)
    assert arrivals[0] >= 0.05 + seconds  # the stand-in reasons before it writes
    # Not from the first to the last: a reader that is held up finds all of them waiting.
    assert arrivals[-1] >= 0.05 + seconds + seconds / 2


def parsed_request(system: str = "", user_text: str = "", **parts: object) -> ParsedRequest:
    empty = {"model": "gpt-5.2", "functions": {}, "builtin": (), "schema": None, "images": 0, "reasoning": False}
    return ParsedRequest(system=system, messages=(("user", user_text),), **{**empty, **parts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "message"),
    [(name, one.message) for conversations in CONVERSATIONS.values() for name, one in conversations.items()],
)
def test_the_demo_is_scripted(name: str, message: str) -> None:
    """Every message of the demo has its intent, and every intent its answer."""
    classified = answer(scripts.SCRIPT, parsed_request("# intent\n...", message))
    answered = answer(scripts.SCRIPT, parsed_request("# answer\n...", f"참고 자료...\n{message}"))

    assert classified is not None
    assert classified.fields["intent"] == {"vision": "waste", "summarize": "general"}.get(name, name)
    assert answered is not None
    assert answered.text


def test_the_last_message_decides() -> None:
    """Examples in the prompt and earlier turns do not select the line."""
    prompt = f"# intent\n예: {QUESTIONS['location']}\n예: {QUESTIONS['waste']}"

    found = answer(scripts.SCRIPT, parsed_request(prompt, QUESTIONS["general"]))

    assert found is not None
    assert found.fields["intent"] == "general"


class Schema(BaseModel):
    """A schema with fields that the script lacks."""

    intent: str
    weather: bool
    reasons: list[str]
    score: float


def test_an_answer_follows_the_schema() -> None:
    """Fields outside the schema are left out, and missing fields are empty."""
    request = parsed_request("# intent\n...", QUESTIONS["waste"], schema=Schema.model_json_schema())
    scripted = Answer(fields={"intent": "waste", "weather": True, "place": "서울"})

    answers = fit_answer(request, scripted, cached_tokens=0, image_tokens=0, draws=False)

    assert Schema.model_validate_json(answers.text) == Schema(intent="waste", weather=True, reasons=[], score=0)


def test_a_call_uses_the_offered_function() -> None:
    """The stand-in calls the offered function with its own arguments, and answers with text after the result."""
    schema = {"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}
    scripted = Answer(text="맑습니다.", calls=(("forecast", {"place": "서울", "region": "서울"}),))
    first_request = parsed_request(functions={"get_weather": schema})
    second_request = ParsedRequest(
        **{**first_request.__dict__, "messages": (*first_request.messages, ("tool", "맑음"))}
    )

    first = fit_answer(first_request, scripted, cached_tokens=0, image_tokens=0, draws=False)
    second = fit_answer(second_request, scripted, cached_tokens=0, image_tokens=0, draws=False)

    assert (first.calls, first.text) == ((("get_weather", {"place": "서울"}),), "")
    assert (second.calls, second.text) == ((), "맑습니다.")


def test_a_line_may_require_a_tool_or_a_model() -> None:
    """Offered tools and the model can select a line."""
    lines = (Line(Answer(text="a"), tool="web_search"), Line(Answer(text="b"), model="gemini"), Line(Answer(text="c")))

    answers = [
        answer(lines, parsed_request(builtin=("web_search",))),
        answer(lines, parsed_request(model="gemini-3-flash-preview")),
        answer(lines, parsed_request()),
    ]

    assert [found.text for found in answers if found] == ["a", "b", "c"]
