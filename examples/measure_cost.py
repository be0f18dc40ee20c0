"""Print what a script and one of its parts cost; runs without keys."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=1000, output_tokens=100))

if __name__ == "__main__":
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        config = {"callbacks": [handler]}
        model.invoke("Where does glass go?", config)
        with handler.measure() as m:
            model.batch(["Where does paper go?", "Where does tin go?"], config)
        print("the batch:", m.cost, f"for {m.usage.total_tokens} tokens")
        print("the script:", handler.totals())
