"""Report the tokens and dollars of embeddings, in a node and outside; runs without keys."""

from __future__ import annotations

from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, MeasuredEmbeddings

# With a key: MeasuredEmbeddings(OpenAIEmbeddings(model="text-embedding-3-small")).
embeddings = MeasuredEmbeddings(DeterministicFakeEmbedding(size=64), provider="openai", model="text-embedding-3-small")
store = InMemoryVectorStore(embeddings)
search = RunnableLambda(lambda question: store.similarity_search(question, k=1)[0].page_content)

if __name__ == "__main__":
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        handler.install()
        with handler.measure() as indexing:
            store.add_texts(["Glass goes to the bottle bank.", "Paper goes to the blue bin."])
        with handler.measure() as searching:
            search.invoke("Where does glass go?")
        print("indexing:", indexing)
        print("searching:", searching)
