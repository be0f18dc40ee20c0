"""A retriever over the disposal rules: BM25, and the meaning of the words where embeddings are configured."""

from __future__ import annotations

import logging
import re
from functools import cache
from typing import Any

import bm25s
import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.retrievers import BaseRetriever

from graph.knowledge.rules import Rule, rules

__all__ = ["DisposalRules"]

_logger = logging.getLogger(__name__)

# Below it, a rule has nothing to do with the question.
_MIN_SIMILARITY = 0.25
_RANK_OFFSET = 60
# The rules' vectors, by class and model of the embeddings.
_vectors: dict[tuple[str, str], Any] = {}
_WORD = re.compile(r"[0-9a-z가-힣]+")
# These words occur in almost every question. As n-grams they would match the text of every rule.
_QUESTION_WORDS = re.compile(r"어떻게|어디에?|하나요?|되나요?|(?:버려|버리|배출|분리수거|재활용|해야|돼|알려|방법)\S*")


class DisposalRules(BaseRetriever):
    """Retrieves the rules that match a question, the best first, with ``metadata["score"]``.

    With embeddings, a rule's score is the sum of its reciprocal ranks by words and by meaning. If they fail, the words
    alone decide.

    Attributes:
        k: The maximum number of rules. Rules with a score of 0 are left out.
        embeddings: Finds rules by meaning as well; None for words only. The rules' vectors are made once.
    """

    k: int = 4
    embeddings: Embeddings | None = None

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - required by the base class
    ) -> list[Document]:
        all_rules = rules()
        ranked = _by_words(query, self.k)
        if self.embeddings is not None:
            try:
                ranked = _fused(ranked, _by_meaning(query, self.embeddings, self.k))[: self.k]
            except Exception as error:
                _logger.warning("The rules are searched by words alone: %s.", type(error).__name__)
        return [_document(all_rules[number], score) for number, score in ranked]


def _by_words(query: str, k: int) -> list[tuple[int, float]]:
    """Return rules and their BM25 scores above 0, the best first."""
    tokens = _tokens(_QUESTION_WORDS.sub(" ", query.lower()))
    if not tokens:
        return []
    found, scores = _index().retrieve([tokens], k=min(k, len(rules())), show_progress=False)
    return [(int(number), float(score)) for number, score in zip(found[0], scores[0], strict=True) if score > 0]


def _by_meaning(query: str, embeddings: Embeddings, k: int) -> list[tuple[int, float]]:
    """Return rules and their cosine similarity to the query, the best first."""
    key = (type(embeddings).__name__, str(getattr(embeddings, "model", "")))
    if key not in _vectors:
        _vectors[key] = _unit(np.asarray(embeddings.embed_documents([_text(rule) for rule in rules()])))
    similarity = _vectors[key] @ _unit(np.asarray([embeddings.embed_query(query)]))[0]
    best = np.argsort(-similarity)[:k]
    return [(int(number), float(similarity[number])) for number in best if similarity[number] >= _MIN_SIMILARITY]


def _fused(*rankings: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Return rankings joined by reciprocal rank: https://doi.org/10.1145/1571941.1572114."""
    scores: dict[int, float] = {}
    for ranking in rankings:
        for rank, (number, _) in enumerate(ranking):
            scores[number] = scores.get(number, 0.0) + 1 / (_RANK_OFFSET + rank)
    return sorted(scores.items(), key=lambda item: -item[1])


def _unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


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


def _text(rule: Rule) -> str:
    return f"{rule.item} ({rule.category}): {rule.how}"


def _document(rule: Rule, score: float) -> Document:
    return Document(
        page_content=_text(rule),
        metadata={"item": rule.item, "category": rule.category, "source": rule.source, "score": round(score, 4)},
    )
