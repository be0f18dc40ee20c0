"""Model names that LangChain joined while it added up streamed choices."""

from __future__ import annotations

import time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult

from eco2_callbacks.usage import read_answer


def model_of(name: str) -> str:
    message = AIMessage("Hi", response_metadata={"model_name": name})
    result = LLMResult(generations=[[ChatGeneration(message=message)]])
    return read_answer(result, request_model="requested").model


@given(st.text("ab-1", min_size=2, max_size=12), st.integers(1, 9))
def test_a_joined_name_is_read_once(name: str, times: int) -> None:
    """Any name that is not a repetition itself is read once, however many choices repeat it."""
    assume(not any(name == name[:length] * (len(name) // length) for length in range(1, len(name))))

    assert model_of(name * times) == name


@pytest.mark.parametrize(("times", "read"), [(1023, "gpt-4o-m"), (1024, "gpt-4o-m"), (1025, "gpt-4o-m" * 1025)])
def test_a_name_beyond_any_stream_stays(times: int, read: str) -> None:
    """Past 8192 characters a name is not a streamed repetition and stays as it is."""
    assert model_of("gpt-4o-m" * times) == read


def test_a_long_name_is_read_in_an_instant() -> None:
    """The time grows with the length, not with its square: a hostile name holds up no call."""
    name = "ab" * 499_999 + "aa"

    started = time.process_time()
    read = model_of(name)
    seconds = time.process_time() - started

    assert read == name
    assert seconds < 30  # an expression that tries every part needs 0.5 s for 32,000 characters, so 490 s here
