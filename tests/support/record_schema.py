"""The JSON schema of ``record.to_dict()``, as docs/records.schema.json holds it."""

from __future__ import annotations

from typing import Any

import msgspec

from eco2_callbacks import Record

__all__ = ["record_schema"]


def record_schema() -> dict[str, Any]:
    """Return the schema of the records' fields, with the totals that ``to_dict()`` adds, and no further keys."""
    schema = msgspec.json.schema(Record)
    for name, total in (
        ("Cost", {"total_usd": {"type": "string", "format": "decimal"}}),
        ("TokenUsage", {"total_tokens": {"type": "integer"}}),
    ):
        schema["$defs"][name]["properties"] |= total
    for definition in schema["$defs"].values():
        # The class's whole docstring, which stands in the code.
        definition.pop("description", None)
        if definition.get("type") == "object":
            definition["additionalProperties"] = False
            definition["required"] = sorted(definition["properties"])
    return schema
