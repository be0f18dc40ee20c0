"""PassedAnswers: finds calls whose answer is that of another call inside them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from weakref import ref

from langchain_core.messages import BaseMessage

from eco2_callbacks.runs.open_call import OpenLLMCall

__all__ = ["PassedAnswers"]

# An outer call ends right after the inner one.
_MAX_ANSWERS = 100


class _Answered(NamedTuple):
    """A call that was answered while another one was open."""

    run_id: str
    message: ref[BaseMessage]
    started: float
    thread_id: int
    task_id: int
    model: tuple[object, ...]
    usage: Mapping[str, Any] | None


class PassedAnswers:
    """Finds models that ask another one and pass its answer on: the provider answered, and bills, once.

    A wrapper for failover, routing or guarding does so. LangChain reports two calls whose answers have the same message
    id and usage. Fakes and recorded answers repeat ids, so an id alone is no evidence. The inner call was sent to
    another model, started after the outer one, and one of these holds:

    - It ran in the same task or thread.
    - The two answers are one object, or the id names the inner call: LangChain made it, as the provider gave none. The
      outer call waits for another task or thread, as LangChain's ``agenerate`` does.

    Attributes:
        answers: What was answered while another call was open, by message id.
    """

    def __init__(self) -> None:
        self.answers: dict[str, _Answered] = {}

    def on_end(self, call: OpenLLMCall, output: Any) -> None:
        """Mark a call that passes an answer on; remember any other answer."""
        try:
            message = output.generations[0][0].message
            message_id, usage = message.id, message.usage_metadata
        except (AttributeError, IndexError, TypeError):
            return  # no chat model's answer
        if not isinstance(message_id, str):
            return
        answered = self.answers.get(message_id)
        if answered is not None and answered.usage == usage and _is_inside(answered, call, message):
            call.is_passed_on = True
            return
        self.answers[message_id] = _Answered(
            run_id=str(call.run_id),
            message=ref(message),
            started=call.started,
            thread_id=call.thread_id,
            task_id=id(call.task),
            model=call.requested(),
            usage=usage,
        )
        if len(self.answers) > _MAX_ANSWERS:
            with suppress(KeyError, RuntimeError, StopIteration):  # another thread may have removed it first
                del self.answers[next(iter(self.answers))]


def _is_inside(answered: _Answered, call: OpenLLMCall, message: BaseMessage) -> bool:
    if answered.started < call.started or answered.model == call.requested():
        return False
    # The task of the outer call is alive, so its id is no other one's.
    if answered.thread_id == call.thread_id and answered.task_id == id(call.task):
        return True
    return answered.message() is message or answered.run_id in str(message.id)
