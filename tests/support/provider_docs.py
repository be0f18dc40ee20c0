"""Writes docs/providers.md from the provider cases: ``python -m tests.support.provider_docs``."""

from __future__ import annotations

from pathlib import Path

from tests.support.provider_cases import CASES, INVISIBLE
from tests.support.unreported_cases import UNREPORTED

__all__ = ["PAGE", "page"]

PAGE = Path(__file__).parents[2] / "docs" / "providers.md"
_HEAD = """\
# Providers

What the handler bills exactly, what it marks, and what no field of LangChain's answers shows. Each line but the
invisible ones is a test of `tests/test_provider_cases.py`; `python -m tests.support.provider_docs` writes this page.

- Exact: tokens and dollars are those of the provider's own rules.
- Marked: the record has an `estimate_reason` or an `unpriced_reason`, and one line is logged per process and model.
- Invisible: nothing in the answer or the request shows it.

The address decides who is paid. The handler reads the model's `base_url`, and for ChatOpenAI without one the variables
`OPENAI_API_BASE` and `OPENAI_BASE_URL`, when it first sees the model. It matches them with genai-prices' patterns.

| address | provider | dollars |
|---|---|---|
| a known provider's | that provider | its rates |
| a loopback address, and a model that only its vendor serves | the vendor | its rates: a proxy or a stand-in |
| any other local or private address | `self_hosted` | none: `unpriced_reason="self_hosted"` |
| an unknown host | `self_hosted` | none: `unpriced_reason="unknown_model"` |

Custom rates for `provider = "self_hosted"` price what your own servers cost.

ChatLiteLLM's provider is the one that the prefix of the model's name names (`anthropic/claude-sonnet-4-5`), or the
vendor that alone has a name without a prefix (`gpt-4o`). Another prefix, a name that several providers have and the
names of a ChatLiteLLMRouter stay with the provider `litellm`, without a price. So do deployments behind `azure/`: no
answer names their model. Custom rates price them.

| provider | client | | what |
|---|---|---|---|
"""


def page() -> str:
    rows = [(case.provider, case.client, case.kind, _what(case.promise, case.mark)) for case in (*CASES, *UNREPORTED)]
    rows += [(provider, client, "invisible", what) for provider, client, what in INVISIBLE]
    rows.sort(key=lambda row: (row[0] != "any", row[0], ("exact", "marked", "invisible").index(row[2]), row[1]))
    return _HEAD + "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _what(promise: str, mark: str | None) -> str:
    text = promise.replace("``", "`")
    return text if mark is None else f"{text} (`{mark}`)"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
