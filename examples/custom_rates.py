"""Price a model of your own servers by a file of custom rates; runs without keys."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, PriceBook, TokenUsage
from eco2_callbacks.testing import FakeChatModel

RATES = """
[[rates]]
provider = "self_hosted"
model = "our-*"
start = 2026-01-01
source = "what a GPU hour costs us"
input_mtok = 0.20
output_mtok = 0.80
"""

if __name__ == "__main__":
    model = FakeChatModel(
        model="our-llama", provider="self_hosted", usage=TokenUsage(input_tokens=5000, output_tokens=500)
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rates.toml"
        path.write_text(RATES, encoding="utf-8")
        # Or set ECO2_PRICES to the path.
        with Eco2CallbackHandler(registry=CollectorRegistry(), prices=PriceBook.from_toml(path)) as handler:
            model.invoke("Where does glass go?", {"callbacks": [handler]})
            print(handler.totals())
