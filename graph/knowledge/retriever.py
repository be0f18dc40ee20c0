"""A BM25 retriever over the disposal rules."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import bm25s
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from graph.knowledge.rules import Rule, rules

__all__ = ["DisposalRules"]

_WORD = re.compile(r"[0-9a-z가-힣]+")
# These words occur in almost every question. As n-grams they would match the text of every rule.
_QUESTION_WORDS = re.compile(r"어떻게|어디에?|하나요?|되나요?|(?:버려|버리|배출|분리수거|재활용|해야|돼|알려|방법)\S*")


class DisposalRules(BaseRetriever):
    """Retrieves the rules that match a question, the best first, with ``metadata["score"]``.

    Attributes:
        k: The maximum number of rules. Rules with a score of 0 are left out.
    """

    k: int = 4

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - required by the base class
    ) -> list[Document]:
        all_rules = rules()
        tokens = _tokens(_QUESTION_WORDS.sub(" ", query.lower()))
        if not tokens:
            return []
        found, scores = _index().retrieve([tokens], k=min(self.k, len(all_rules)), show_progress=False)
        return [
            _document(all_rules[number], float(score))
            for number, score in zip(found[0], scores[0], strict=True)
            if score > 0
        ]


@cache
def _index() -> Any:
    index = bm25s.BM25()
    index.index([_tokens(_index_text(rule)) for rule in rules()], show_progress=False)
    return index


def _index_text(rule: Rule) -> str:
    # The rule's subject weighs more than the words it mentions.
    return " ".join([rule.item] * 3 + [*rule.also] * 2 + [rule.category, rule.how]).lower()


def _tokens(text: str) -> list[str]:
    """Return each word's character pairs and triples, because Korean particles attach to words."""
    tokens = []
    for word in _WORD.findall(text):
        tokens += [word[start : start + size] for size in (2, 3) for start in range(len(word) - size + 1)]
        if len(word) <= 2:  # a one-character noun, alone or with its particle
            tokens.append(word[0])
    return tokens


def _document(rule: Rule, score: float) -> Document:
    return Document(
        page_content=f"{rule.item} ({rule.category}): {rule.how}",
        metadata={"item": rule.item, "category": rule.category, "source": rule.source, "score": round(score, 4)},
    )
