"""How many tokens the functions are that a model is offered, by OpenAI's published rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["function_tokens"]

# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions, "tool calls"
_EACH = 7
_ALL = 12
_PROPERTIES = 3
_PROPERTY = 3
_ENUM = -3
_ENUM_VALUE = 3
# Deeper than any schema that somebody wrote; one that holds itself by reference ends sooner.
_DEEPEST = 32


def function_tokens(tools: object, count: Callable[[str], int]) -> int:
    """Return the tokens of the functions among the tools; a provider's own tools have no published number.

    Args:
        tools: As bound to a model, in the shape of OpenAI (Chat Completions, Responses), Gemini or Anthropic.
        count: Tokens of a text.
    """
    tokens = 0
    for function in _functions(tools):
        schema = _mapping(function.get("parameters") or function.get("input_schema"))
        described = str(function.get("description") or "").rstrip(".")
        tokens += _EACH + count(f"{function['name']}:{described}") + _properties(schema, count, _Scope(schema))
    return tokens + _ALL if tokens else 0


def _functions(tools: object) -> Iterator[Mapping[str, Any]]:
    for tool in tools if isinstance(tools, list | tuple) else ():
        told = _mapping(tool)
        declared = told.get("function_declarations")
        inside = declared if isinstance(declared, list) else [told.get("function", told)]
        for function in inside:
            if _mapping(function).get("name") and isinstance(function["name"], str):
                yield function


def _properties(schema: Mapping[str, Any], count: Callable[[str], int], scope: _Scope, depth: int = 0) -> int:
    properties = _mapping(schema.get("properties"))
    if not properties or depth > _DEEPEST:
        return 0
    tokens = _PROPERTIES
    for name, value in properties.items():
        told = scope.resolved(_mapping(value))
        described = str(told.get("description") or "").rstrip(".")
        tokens += _PROPERTY + count(f"{name}:{_type(told, scope)}:{described}")
        if isinstance(choices := told.get("enum"), list):
            tokens += _ENUM + sum(_ENUM_VALUE + count(str(choice)) for choice in choices)
        for inner in (told, *_options(told)):
            for part in (inner, _mapping(inner.get("items"))):
                if scope.is_first(part):
                    tokens += _properties(scope.resolved(part), count, scope, depth + 1)
    return tokens


class _Scope:
    """The definitions of a function's schema; each is sent once, however often it is named."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._definitions = _mapping(root.get("$defs"))
        self._seen: set[str] = set()

    def resolved(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        name = schema.get("$ref")
        if not isinstance(name, str):
            return schema
        return {**_mapping(self._definitions.get(name.rpartition("/")[2])), **schema}

    def is_first(self, schema: Mapping[str, Any]) -> bool:
        name = schema.get("$ref")
        if not isinstance(name, str):
            return True
        if name in self._seen:
            return False
        self._seen.add(name)
        return True


def _type(schema: Mapping[str, Any], scope: _Scope) -> str:
    if options := _options(schema):
        return "|".join(str(scope.resolved(option).get("type")) for option in options)
    return str(schema.get("type"))


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    options = schema.get("anyOf")
    return [_mapping(option) for option in options] if isinstance(options, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
