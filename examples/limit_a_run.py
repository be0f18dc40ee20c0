"""Stop a run before the call that would cost more than the run may; runs without keys."""

from __future__ import annotations

from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, Eco2CallbackHandler, TokenUsage, run_config
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=10, output_tokens=500))


def ask_again_and_again(question: str) -> str:
    while model.invoke(question).text != "I am sure.":
        pass
    return "done"


if __name__ == "__main__":
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        try:
            agent = RunnableLambda(ask_again_and_again)
            agent.invoke("Where does glass go?", run_config(handler, job_id="42", max_usd=0.02))
        except BudgetExceeded as error:
            print("stopped:", error)
        print(handler.totals())
