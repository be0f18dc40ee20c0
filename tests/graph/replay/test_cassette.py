"""The committed cassettes: their bills, their form and their shapes."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
import yaml

from eco2_callbacks import Eco2CallbackHandler
from tests.support.call_paths import PATHS
from tests.support.cassette_bills import bill_of_call, bills_of_cassette
from tests.support.json_shapes import answer_shapes
from tests.support.record_sink import Records

ROOT = Path(__file__).parents[3]
CASSETTES = ROOT / "cassettes"
FILES = sorted(CASSETTES.rglob("*.yaml"))
RECORDINGS = Path(os.environ.get("ECO2_RECORDINGS", ROOT.parent / "shared" / "recordings"))

# The real recordings have no Chat Completions answer that calls a function without streaming. Its shape:
# https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-message-tool_calls
_TOOL_CALL = "chat choices[].message.tool_calls[](function)"
NOT_RECORDED = {
    f"{_TOOL_CALL}.id string",
    f"{_TOOL_CALL}.type string",
    f"{_TOOL_CALL}.function.name string",
    f"{_TOOL_CALL}.function.arguments string",
}


@pytest.mark.parametrize("name", PATHS)
async def test_a_replayed_call_is_billed(
    name: str, cassette: Path, handler: Eco2CallbackHandler, records: Records, request: pytest.FixtureRequest
) -> None:
    """The record has the tokens and the cost of the recorded answer."""
    await PATHS[name]({"callbacks": [handler]})

    if request.config.getoption("--record-mode") == "none":
        assert [bill_of_call(call) for call in records.calls] == list(bills_of_cassette(cassette))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CASSETTES)))
def test_a_cassette_is_readable_and_has_no_secrets(path: Path) -> None:
    """Korean is readable, and no file contains a key, an identity or a stand-in's host."""
    text = path.read_text(encoding="utf-8")
    suspicious = r"127\.0\.0\.1|localhost|authorization|bearer|cookie|\bsk-|AIza|\borg-|\bproj_|\breq_|serviceKey="

    assert "!!binary" not in text
    assert "\\u" not in text
    assert re.findall(suspicious, text, re.IGNORECASE) == []
    for interaction in yaml.safe_load(text)["interactions"]:
        assert interaction["request"]["headers"].keys() <= {"accept", "content-type"}
        assert interaction["response"]["headers"].keys() <= {"content-type", "retry-after"}


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings at {RECORDINGS}; set ECO2_RECORDINGS")
def test_every_shape_occurs_in_real_recordings() -> None:
    """Every field, type and event of the cassettes also occurs in real recordings."""
    paths = {"chat.completions": "/chat/completions", "responses": "/responses"}
    real: set[str] = set()
    for file in sorted((RECORDINGS / "cases").glob("*.json")):
        case = json.loads(file.read_text(encoding="utf-8"))
        if case["response"]["status"] == 200:
            real |= answer_shapes(paths.get(case["api"], case["api"]), case["response"]["body"])

    ours: dict[str, str] = {}
    for file in FILES:
        for interaction in yaml.safe_load(file.read_text(encoding="utf-8"))["interactions"]:
            uri = interaction["request"]["uri"]
            if re.match(r"https://(api\.openai|generativelanguage\.googleapis)\.com/", uri):
                body = interaction["response"]["body"]["string"]
                ours |= dict.fromkeys(answer_shapes(uri.partition("?")[0], body), file.name)

    assert {shape: name for shape, name in ours.items() if shape not in real | NOT_RECORDED} == {}
    assert NOT_RECORDED - real == NOT_RECORDED & ours.keys()
