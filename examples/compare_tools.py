"""Count the same calls with this handler and with LangChain's own usage callback; runs without keys."""

from __future__ import annotations

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=1000, cache_read_tokens=800, output_tokens=100))
chain = RunnableLambda(lambda question: question) | model

if __name__ == "__main__":
    other = UsageMetadataCallbackHandler()
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        with handler.measure() as m:
            chain.batch(["Where does glass go?", "Where does paper go?"], {"callbacks": [other, handler]})
        print("the other tool:", other.usage_metadata["gpt-5.2"]["total_tokens"], "tokens, no dollars")
        print("this handler:  ", m.usage.total_tokens, "tokens,", m.cost)
