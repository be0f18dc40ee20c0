"""DisposalRules: BM25 over the shipped rules."""

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
# Words of almost every question; as n-grams they would match the rules' own prose.
_ASKING = re.compile(r"어떻게|어디에?|하나요?|되나요?|(?:버려|버리|배출|분리수거|재활용|해야|돼|알려|방법)\S*")


class DisposalRules(BaseRetriever):
    """Finds the rules that fit a question, best first, with the score as ``metadata["score"]``.

    Attributes:
        k: How many rules at most; those without anything in common with the question are left out.
    """

    k: int = 4

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - the base class's
    ) -> list[Document]:
        known = rules()
        tokens = _tokens(_ASKING.sub(" ", query.lower()))
        if not tokens:
            return []
        found, scores = _index().retrieve([tokens], k=min(self.k, len(known)), show_progress=False)
        return [
            _document(known[number], float(score))
            for number, score in zip(found[0], scores[0], strict=True)
            if score > 0
        ]


@cache
def _index() -> Any:
    index = bm25s.BM25()
    index.index([_tokens(_indexed(rule)) for rule in rules()], show_progress=False)
    return index


def _indexed(rule: Rule) -> str:
    # What a rule is about weighs more than what it mentions.
    return " ".join([rule.item] * 3 + [*rule.also] * 2 + [rule.category, rule.how]).lower()


def _tokens(text: str) -> list[str]:
    """Return each word's pairs and triples of characters: Korean particles stick to the words they follow."""
    tokens = []
    for word in _WORD.findall(text):
        tokens += [word[start : start + size] for size in (2, 3) for start in range(len(word) - size + 1)]
        if len(word) <= 2:  # a noun of one character, alone or with its particle
            tokens.append(word[0])
    return tokens


def _document(rule: Rule, score: float) -> Document:
    return Document(
        page_content=f"{rule.item} ({rule.category}): {rule.how}",
        metadata={"item": rule.item, "category": rule.category, "source": rule.source, "score": round(score, 4)},
    )
