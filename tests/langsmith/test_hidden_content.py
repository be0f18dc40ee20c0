"""LangSmith: what the client hides or anonymizes stays hidden."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, metadata, model_runs
from tests.support.langsmith_server import LangSmithServer
from tests.support.traced_graphs import one_node
from tests.support.tracing_modes import TRACING_MODES, activate


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
def test_hidden_content_stays_hidden(server: LangSmithServer, handler: Eco2CallbackHandler, tracing_mode: str) -> None:
    """With hidden inputs and outputs the payload holds the numbers and no text."""
    secret = "my address is 7 Mapo-daero"

    class Parrot(FakeModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            answer = AIMessage(content=messages[0].content, usage_metadata=self.usage)
            return ChatResult(generations=[ChatGeneration(message=answer)])

    with activate(tracing_mode, server, handler, hide_inputs=True, hide_outputs=True) as active:
        active.run(
            one_node(lambda state: {"answers": [str(Parrot().invoke(secret).content)]}).invoke,
            {"message": secret},
            {"callbacks": active.callbacks},
        )

    assert all(secret not in str(operation.payload) for operation in server.operations)
    run = server.run(run_type="llm")
    assert not run.get("outputs")
    assert metadata(run)["usage_metadata"] == PRICED_USAGE


def test_hidden_metadata_and_anonymizers_keep_their_meaning(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """The client's own functions decide what is sent."""

    def masked(data: dict[str, Any]) -> dict[str, Any]:
        return {"masked": sorted(data)}

    with activate("tracer_after", server, handler, hide_metadata=True, hide_outputs=masked) as active:
        FakeModel().invoke("hello", {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    assert "usage_metadata" not in run["extra"].get("metadata", {})
    assert set(run["outputs"]) == {"masked"}


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({}, ["intent:flat 7"]),
        ({"hide_metadata": True}, []),
        ({"anonymizer": lambda data: json.loads(json.dumps(data).replace("flat 7", "X"))}, ["intent:X"]),
    ],
    ids=["shown", "hidden", "anonymized"],
)
def test_a_tag_shows_no_more_of_the_intent_than_the_metadata(
    server: LangSmithServer, handler: Eco2CallbackHandler, options: dict[str, Any], tags: list[str]
) -> None:
    """The client does not filter tags, so the intent's tag follows what it does to the metadata."""
    with activate("tracer_after", server, handler, **options) as active:
        one_node(lambda state: {"intent": "flat 7"}).invoke({"message": "x"}, {"callbacks": active.callbacks})

    for run in server.runs().values():
        assert [tag for tag in run["tags"] if tag.startswith("intent:")] == tags
