"""Counts the tokens of the functions offered to a model, by OpenAI's published rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from eco2_callbacks.usage.content import as_list, as_mapping

__all__ = ["function_tokens"]

# https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions, "tool calls"
_FUNCTION_TOKENS = 7
_END_TOKENS = 12
_PROPERTIES_TOKENS = 3
_PROPERTY_TOKENS = 3
_ENUM_TOKENS = -3
_ENUM_VALUE_TOKENS = 3
# Deeper than any real schema. A schema that refers to itself ends sooner.
_MAX_DEPTH = 32


def function_tokens(tools: object, count: Callable[[str], int]) -> int:
    """Return the tokens of the functions among the tools; a provider's own tools have no published number.

    The rule is OpenAI's. It stands in for all other providers: they publish no rule.

    Args:
        tools: As bound to a model, in the shape of OpenAI (Chat Completions, Responses), Gemini or Anthropic.
        count: Returns the tokens of a text.
    """
    tokens = 0
    for function in _functions(tools):
        schema = as_mapping(function.get("parameters") or function.get("input_schema"))
        text = f"{function['name']}:{_description(function)}"
        tokens += _FUNCTION_TOKENS + count(text) + _properties_tokens(schema, count, _Definitions(schema))
    return tokens + _END_TOKENS if tokens else 0


def _functions(tools: object) -> Iterator[Mapping[str, Any]]:
    for tool in tools if isinstance(tools, list | tuple) else ():
        fields = as_mapping(tool)
        declared = fields.get("function_declarations")
        for function in declared if isinstance(declared, list) else [fields.get("function", fields)]:
            if as_mapping(function).get("name") and isinstance(function["name"], str):
                yield function


def _properties_tokens(
    schema: Mapping[str, Any], count: Callable[[str], int], definitions: _Definitions, depth: int = 0
) -> int:
    properties = as_mapping(schema.get("properties"))
    if not properties or depth > _MAX_DEPTH:
        return 0
    tokens = _PROPERTIES_TOKENS
    for name, value in properties.items():
        fields = definitions.resolve(as_mapping(value))
        tokens += _PROPERTY_TOKENS + count(f"{name}:{_type(fields, definitions)}:{_description(fields)}")
        if isinstance(values := fields.get("enum"), list):
            tokens += _ENUM_TOKENS + sum(_ENUM_VALUE_TOKENS + count(str(value)) for value in values)
        for option in (fields, *_options(fields)):
            for part in (option, as_mapping(option.get("items"))):
                if definitions.is_first(part):
                    tokens += _properties_tokens(definitions.resolve(part), count, definitions, depth + 1)
    return tokens


class _Definitions:
    """The definitions of one function's schema; each is sent, and so counted, once."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._definitions = as_mapping(root.get("$defs"))
        self._seen: set[str] = set()

    def resolve(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        name = schema.get("$ref")
        if not isinstance(name, str):
            return schema
        return {**as_mapping(self._definitions.get(name.rpartition("/")[2])), **schema}

    def is_first(self, schema: Mapping[str, Any]) -> bool:
        name = schema.get("$ref")
        if not isinstance(name, str):
            return True
        if name in self._seen:
            return False
        self._seen.add(name)
        return True


def _description(fields: Mapping[str, Any]) -> str:
    return str(fields.get("description") or "").rstrip(".")


def _type(schema: Mapping[str, Any], definitions: _Definitions) -> str:
    if options := _options(schema):
        return "|".join(str(definitions.resolve(option).get("type")) for option in options)
    return str(schema.get("type"))


def _options(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [as_mapping(option) for option in as_list(schema.get("anyOf"))]
