"""OpenAI's wire format: Chat Completions and Responses, whole and streamed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.support.parsed_request import count_tokens, split_tokens
from tests.support.scripted_answer import Chunk, ModelAnswer, pretty

__all__ = ["chat_events", "completion", "error", "response", "response_events"]

_CREATED = 1795000000
_IMAGE_TOKENS = 1056  # for an image of medium quality; they determine its duration
_TOKENS_PER_EVENT = 6  # the real API sends one event per token; fewer are easier to read


def error(status: int, message: str) -> str:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return pretty({"error": {"message": message, "type": kind, "param": None, "code": None}})


def completion(answer: ModelAnswer) -> Chunk:
    """Shape: https://platform.openai.com/docs/api-reference/chat/object."""
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if answer.calls:
        message["tool_calls"] = [
            {"id": _id("call", answer, number), "type": "function", "function": {"name": name, "arguments": arguments}}
            for number, (name, arguments) in enumerate(_calls(answer))
        ]
    choice = {
        "index": 0,
        "message": {**message, "refusal": None, "annotations": []},
        "finish_reason": "tool_calls" if answer.calls else "stop",
    }
    body = {
        "id": f"chatcmpl-{answer.digest[:29]}",
        "object": "chat.completion",
        "created": _CREATED,
        "model": _dated(answer.model),
        "choices": [choice],
        "usage": _chat_usage(answer),
        "service_tier": "default",
        "system_fingerprint": None,
    }
    return Chunk(pretty(body), answer.output_tokens)


def chat_events(answer: ModelAnswer, *, usage: bool) -> Iterator[Chunk]:
    """Shape: https://platform.openai.com/docs/api-reference/chat-streaming."""
    head: dict[str, Any] = {
        "id": f"chatcmpl-{answer.digest[:29]}",
        "object": "chat.completion.chunk",
        "created": _CREATED,
        "model": _dated(answer.model),
        "service_tier": "default",
        "system_fingerprint": None,
    }
    tail: dict[str, Any] = {"usage": None} if usage else {}

    def event(delta: Mapping[str, Any], finish: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _data({**head, "choices": [choice], **tail})

    if answer.calls:
        yield Chunk(event({"role": "assistant", "content": None}))
        for index, (name, arguments) in enumerate(_calls(answer)):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": _id("call", answer, index), "type": "function", "function": function}
            yield Chunk(event({"tool_calls": [call]}), count_tokens(name))
            for tokens, piece in split_tokens(arguments, _TOKENS_PER_EVENT):
                yield Chunk(event({"tool_calls": [{"index": index, "function": {"arguments": piece}}]}), tokens)
    else:
        yield Chunk(event({"role": "assistant", "content": "", "refusal": None}))
        for tokens, piece in split_tokens(answer.text, _TOKENS_PER_EVENT):
            yield Chunk(event({"content": piece}), tokens)
    yield Chunk(event({}, "tool_calls" if answer.calls else "stop"))
    if usage:
        yield Chunk(_data({**head, "choices": [], "usage": _chat_usage(answer)}))
    yield Chunk("data: [DONE]\n\n")


def response(answer: ModelAnswer, request: Mapping[str, Any]) -> Chunk:
    """Shape: https://platform.openai.com/docs/api-reference/responses/object."""
    body = _response(answer, request, "completed", _items(answer))
    return Chunk(pretty(body), answer.output_tokens + (_IMAGE_TOKENS if answer.picture else 0))


def response_events(answer: ModelAnswer, request: Mapping[str, Any]) -> Iterator[Chunk]:
    """Shape: https://platform.openai.com/docs/api-reference/responses-streaming."""
    number = -1

    def event(kind: str, **fields: Any) -> str:
        nonlocal number
        number += 1
        content = {"type": kind, **fields, "sequence_number": number}
        return f"event: {kind}\n{_data(content)}"

    yield Chunk(event("response.created", response=_response(answer, request, "in_progress", [])))
    yield Chunk(event("response.in_progress", response=_response(answer, request, "in_progress", [])))
    items = _items(answer)
    for index, item in enumerate(items):
        where = {"item_id": item["id"], "output_index": index}
        yield Chunk(event("response.output_item.added", item=_begun(item), output_index=index))
        match item["type"]:
            case "web_search_call" | "image_generation_call" as kind:
                work = "searching" if kind == "web_search_call" else "generating"
                yield Chunk(event(f"response.{kind}.in_progress", **where))
                yield Chunk(event(f"response.{kind}.{work}", **where))
                tokens = count_tokens(" ".join(item["action"]["queries"])) if "action" in item else _IMAGE_TOKENS
                yield Chunk(event(f"response.{kind}.completed", **where), tokens)
            case "function_call":
                for tokens, piece in split_tokens(item["arguments"], _TOKENS_PER_EVENT):
                    yield Chunk(event("response.function_call_arguments.delta", delta=piece, **where), tokens)
                yield Chunk(event("response.function_call_arguments.done", arguments=item["arguments"], **where))
            case "message":
                (part,) = item["content"]
                where = {"content_index": 0, **where}
                empty = {**part, "annotations": [], "text": ""}
                yield Chunk(event("response.content_part.added", part=empty, **where))
                for tokens, piece in split_tokens(part["text"], _TOKENS_PER_EVENT):
                    delta = event("response.output_text.delta", delta=piece, logprobs=[], **where)
                    yield Chunk(delta, tokens)
                for place, note in enumerate(part["annotations"]):
                    added = {"annotation": note, "annotation_index": place, **where}
                    yield Chunk(event("response.output_text.annotation.added", **added))
                yield Chunk(event("response.output_text.done", text=part["text"], logprobs=[], **where))
                yield Chunk(event("response.content_part.done", part=part, **where))
        yield Chunk(event("response.output_item.done", item=item, output_index=index))
    yield Chunk(event("response.completed", response=_response(answer, request, "completed", items)))


def _begun(item: Mapping[str, Any]) -> dict[str, Any]:
    match item["type"]:
        case "message":
            return {**item, "status": "in_progress", "content": []}
        case "function_call":
            return {**item, "status": "in_progress", "arguments": ""}
        case "reasoning":
            return dict(item)
    return {"id": item["id"], "type": item["type"], "status": "in_progress"}


def _items(answer: ModelAnswer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.reasoning_tokens:
        items.append({"id": _id("rs", answer), "type": "reasoning", "summary": []})
    for number, query in enumerate(answer.searches):
        action = {"type": "search", "queries": [query], "query": query}
        call = {"id": _id("ws", answer, number), "type": "web_search_call", "status": "completed", "action": action}
        items.append(call)
    for number, (name, arguments) in enumerate(_calls(answer)):
        call_id = _id("call", answer, number)
        call = {"id": _id("fc", answer, number), "type": "function_call", "status": "completed"}
        items.append({**call, "arguments": arguments, "call_id": call_id, "name": name})
    if answer.picture:
        drawn = {"background": "opaque", "output_format": "png", "quality": "medium", "result": answer.picture}
        call = {"id": _id("ig", answer), "type": "image_generation_call", "status": "completed"}
        items.append({**call, **drawn, "revised_prompt": answer.text, "size": "1024x1024"})
    if not answer.calls:
        part = {"type": "output_text", "annotations": _annotations(answer), "logprobs": [], "text": answer.text}
        message = {"id": _id("msg", answer), "type": "message", "status": "completed"}
        items.append({**message, "content": [part], "role": "assistant"})
    return items


def _annotations(answer: ModelAnswer) -> list[dict[str, Any]]:
    places = [(answer.text.find(source.quote), source) for source in answer.sources]
    return [
        {
            "type": "url_citation",
            "end_index": begin + len(source.quote),
            "start_index": begin,
            "title": source.title,
            "url": source.url,
        }
        for begin, source in places
        if begin >= 0
    ]


def _response(
    answer: ModelAnswer, request: Mapping[str, Any], status: str, output: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    done = status == "completed"
    usage = {
        "input_tokens": answer.input_tokens + answer.search_tokens,
        "input_tokens_details": {"cached_tokens": answer.cached_tokens},
        "output_tokens": answer.output_tokens + answer.reasoning_tokens,
        "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
        "total_tokens": answer.input_tokens + answer.search_tokens + answer.output_tokens + answer.reasoning_tokens,
    }
    reasoning = request.get("reasoning") or {}
    return {
        "id": _id("resp", answer),
        "object": "response",
        "created_at": _CREATED,
        "status": status,
        "background": False,
        "completed_at": _CREATED if done else None,
        "error": None,
        "frequency_penalty": 0.0,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": _dated(answer.model),
        "output": list(output),
        "parallel_tool_calls": True,
        "presence_penalty": 0.0,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "prompt_cache_retention": None,
        "reasoning": {"effort": reasoning.get("effort", "none"), "summary": None},
        "safety_identifier": None,
        "service_tier": "default" if done else "auto",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [_tool(tool) for tool in request.get("tools", ())],
        "top_logprobs": 0,
        "top_p": 0.98,
        "truncation": "disabled",
        "usage": usage if done else None,
        "user": None,
        "metadata": {},
    }


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool with its default values."""
    approximate = {"type": "approximate", "city": None, "country": "US", "region": None, "timezone": None}
    match tool["type"]:
        case "web_search":
            return {"filters": None, "search_context_size": "medium", "user_location": approximate, **tool}
        case "image_generation":
            look = {"background": "auto", "moderation": "auto", "n": 1, "output_compression": 100}
            return {**look, "output_format": "png", "quality": "auto", "size": "auto", **tool}
    return {"description": None, "strict": True, **tool}


def _chat_usage(answer: ModelAnswer) -> dict[str, Any]:
    output = answer.output_tokens + answer.reasoning_tokens
    return {
        "prompt_tokens": answer.input_tokens,
        "completion_tokens": output,
        "total_tokens": answer.input_tokens + output,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": answer.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _calls(answer: ModelAnswer) -> list[tuple[str, str]]:
    return [(name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in answer.calls]


def _dated(model: str) -> str:
    return {"gpt-5.2": "gpt-5.2-2025-12-11"}.get(model, model)


def _id(kind: str, answer: ModelAnswer, number: int = 0) -> str:
    return f"{kind}_{answer.digest[:46]}{number:02x}"


def _data(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"
