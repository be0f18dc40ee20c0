"""Show every request of a graph as a tree with bars, tokens and dollars; runs without keys."""

from __future__ import annotations

from langgraph.graph import END, START, MessagesState, StateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TerminalSink, TokenUsage
from eco2_callbacks.testing import FakeChatModel

search_usage = TokenUsage(input_tokens=9000, cache_read_tokens=8192, output_tokens=200)
search_model = FakeChatModel(pause_seconds=0.05, usage=search_usage)
answer_model = FakeChatModel(pause_seconds=0.05, answers=["Glass goes to the bottle bank, without its lid."])


def search_web(state: MessagesState) -> dict:
    return {"messages": [search_model.invoke(state["messages"])]}


def search_archive(state: MessagesState) -> dict:
    return {"messages": [search_model.invoke(state["messages"])]}


def answer(state: MessagesState) -> dict:
    return {"messages": [answer_model.invoke(state["messages"])]}


builder = StateGraph(MessagesState)
for node in (search_web, search_archive, answer):
    builder.add_node(node)
for search in ("search_web", "search_archive"):
    builder.add_edge(START, search)
    builder.add_edge(search, "answer")
builder.add_edge("answer", END)
graph = builder.compile()

if __name__ == "__main__":
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[TerminalSink()]) as handler:
        graph.invoke({"messages": [("user", "Where does glass go?")]}, {"callbacks": [handler]})
