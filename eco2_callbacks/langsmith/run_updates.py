"""RunUpdate: what is written on a LangSmith run before its end is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from langsmith import Client
from langsmith.run_trees import RunTree

__all__ = ["RunUpdate"]

# Metadata that also becomes a tag, and the tag's prefix.
_TAGGED = {"intent": "intent:", "agent_name": "agent:"}


class RunUpdate(NamedTuple):
    """What to write on a run; ``usage`` of None leaves the tracer's own."""

    metadata: Mapping[str, Any]
    tags: Sequence[str] = ()
    usage: Mapping[str, Any] | None = None

    def apply(self, run: RunTree) -> None:
        """Write on a run tree. Call it when the end is sent: LangChain's tracer overwrites the usage until then."""
        metadata = {**(run.extra.get("metadata") or {}), **self.metadata}
        if self.usage is not None:
            metadata["usage_metadata"] = dict(self.usage)
            if not run.extra.get("__omit_auto_outputs"):  # the application chose to send no outputs
                run.outputs = _with_usage(run.outputs or {}, self.usage)
        run.extra["metadata"] = metadata
        kept, tags = run.tags or [], list(self.tags)
        for key, prefix in _TAGGED.items():
            if value := self.metadata.get(key):
                # The intent can have changed since the start; runs above hand their agent's tag down.
                kept = [tag for tag in kept if not tag.startswith(prefix)]
                if sent := _as_sent(run.client, key, value):
                    tags.append(f"{prefix}{sent}")
        run.tags = list(dict.fromkeys([*kept, *tags]))


def _as_sent(client: Client, key: str, value: str) -> str:
    """Return a metadata value as the client sends it: what is hidden there must not leave in a tag."""
    hide = getattr(client, "_hide_run_metadata", None)
    sent = hide({key: value}).get(key) if hide is not None else value
    return sent if isinstance(sent, str) else ""


def _with_usage(outputs: dict[str, Any], usage: Mapping[str, Any]) -> dict[str, Any]:
    """Return a model run's dumped outputs with this usage once: in the first message, or beside other outputs."""
    messages = [
        kwargs
        for batch in outputs.get("generations") or ()
        for generation in batch
        if isinstance(generation, dict)
        and isinstance(message := generation.get("message"), dict)
        and isinstance(kwargs := message.get("kwargs"), dict)
    ]
    if not messages:
        return {**outputs, "usage_metadata": dict(usage)}
    for kwargs in messages:
        kwargs.pop("usage_metadata", None)
    messages[0]["usage_metadata"] = dict(usage)
    return outputs
