"""Identity: on whose behalf a run spends: tenant, user, session, job, feature and prompt version."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from operator import is_
from typing import Any, TypeAlias, TypedDict

from langchain_core.runnables.config import var_child_runnable_config

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.runs.text_values import UnreadableError, field_of, identifier

__all__ = [
    "NOTHING_SHARED",
    "AttributionKeys",
    "Identity",
    "IdentityFields",
    "IdentityReader",
    "Texts",
    "merge_shared",
    "read_keys",
]

# Field of the records -> the keys that it is read from.
AttributionKeys: TypeAlias = Mapping[str, str | tuple[str, ...] | list[str]]

# LangGraph's conversation; a nested graph can have one of its own.
_THREAD = "thread_id"
_DEFAULT_KEYS: Mapping[str, tuple[str, ...]] = {
    "tenant_id": ("tenant_id",),
    "user_id": ("user_id",),
    "session_id": ("session_id", _THREAD),
    "job_id": ("job_id",),
    "feature": ("feature",),
    "prompt_version": ("prompt_version",),
}
_FIELDS = tuple(_DEFAULT_KEYS)
# Identities that a reader remembers. A full memory starts anew.
_MAX_KNOWN = 1024
_TEXTS = frozenset({str, type(None)})
# By field of the identity.
Texts: TypeAlias = tuple[str | None, ...]
NOTHING_SHARED: Texts = (None,) * len(_FIELDS)


class IdentityFields(TypedDict):
    """The fields of an identity as a record has them."""

    tenant_id: str
    user_id: str | None
    session_id: str | None
    job_id: str | None
    feature: str | None
    prompt_version: str | None


class _Unreadable:
    """Stands for a value that is no identifier, so that nothing keeps the application's object, which may be large."""

    __slots__ = ("address",)

    def __init__(self, raw: object) -> None:
        self.address = id(raw)


class Identity:
    """On whose behalf a run spends; runs with the same values share the object.

    Attributes:
        raws: The values as found, by key; an ``_Unreadable`` in place of one that is no identifier.
        key_texts: The same as texts.
        texts: The fields' texts; None where nothing is known.
        shared: Those of the texts that ``configurable`` or the runtime context holds: they belong to the whole request.
        inherited: The texts around it.
    """

    __slots__ = ("inherited", "key_texts", "raws", "shared", "texts")

    def __init__(self, raws: list[object], key_texts: Texts, texts: Texts, *, shared: Texts, inherited: Texts) -> None:
        self.raws = raws
        self.key_texts = key_texts
        self.texts = texts
        self.shared = shared
        self.inherited = inherited

    @property
    def tenant_id(self) -> str:
        """The tenant; ``""`` where none is known."""
        return self.texts[0] or ""

    def fields(self, tenant_id: str, shared: Texts = NOTHING_SHARED) -> IdentityFields:
        """Return the fields of a record.

        Args:
            tenant_id: The tenant; the graph's state can name another one.
            shared: What is known of the whole request, for the fields that are unknown here.
        """
        texts = self.texts if shared is NOTHING_SHARED else _merged(self.texts, shared)
        _, user_id, session_id, job_id, feature, prompt_version = texts
        return {
            "tenant_id": tenant_id,
            "user_id": user_id,
            "session_id": session_id,
            "job_id": job_id,
            "feature": feature,
            "prompt_version": prompt_version,
        }


class IdentityReader:
    """Reads identities: each key from the run's metadata, else from ``configurable``, else from the runtime context.

    LangChain hands ``configurable`` and LangGraph's ``context=`` to no callback. Both are in LangChain's context
    variable while the code of a node, chain or tool runs, so they are known from the first run that starts there.

    Args:
        keys: As checked by ``read_keys``.
        on_unreadable: Called with a key and what came for each value that is no identifier.
    """

    def __init__(self, keys: Mapping[str, tuple[str, ...]], on_unreadable: Callable[[str, str], None]) -> None:
        pairs = [(index, key) for index, field in enumerate(_FIELDS) for key in keys[field]]
        self._fields_of_keys = tuple(index for index, _ in pairs)
        self._keys = tuple(key for _, key in pairs)
        self._key_set = frozenset(self._keys)
        self._indexed = tuple(enumerate(self._keys))
        self._on_unreadable = on_unreadable
        # By the values found and the texts around them. Only of texts: the hash of another object is its own code.
        self._known: dict[tuple[tuple[object, ...], Texts], Identity] = {}

    def identity_of(
        self, around: Identity | None, sibling: Identity | None, metadata: Mapping[str, Any], *, in_graph: bool
    ) -> Identity:
        """Return the identity of a run.

        Args:
            around: The identity around it.
            sibling: The identity that was read last in the request: its values are not read again.
            metadata: The run's own.
            in_graph: Whether LangGraph runs it: then there may be a runtime context.
        """
        own = list(map(metadata.get, self._keys))
        raws = own
        config = var_child_runnable_config.get()
        if config is not None and type(configurable := config.get("configurable")) is dict:
            raws = self._with_config(own, configurable, _runtime_context() if in_graph else None)
        # By identity: an object's own comparison is the application's code.
        if around is not None and all(map(is_, raws, around.raws)):
            return around
        inherited = NOTHING_SHARED if around is None else around.texts
        if sibling is not None and sibling.inherited is inherited and all(map(is_, raws, sibling.raws)):
            return sibling
        if own is not raws or not _TEXTS.issuperset(map(type, raws)):
            return self._read(own, raws, inherited, (around, sibling))
        key = (tuple(raws), inherited)
        known = self._known.get(key)
        if known is None:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            known = self._read(own, raws, inherited, (around, sibling))
            if known.raws == raws:  # else one of them is no identifier: each such value is counted
                self._known[key] = known
        return known

    def _with_config(self, own: list[object], configurable: dict[str, Any], context: object) -> list[object]:
        """Return the values of the metadata, with those of the config where the metadata has none."""
        raws = own
        if context is None and self._key_set.isdisjoint(configurable):
            return own
        for index, key in self._indexed:
            if own[index] is None:
                value = configurable.get(key)
                if value is None and context is not None:
                    value = field_of(context, key)
                if value is not None:
                    if raws is own:
                        raws = own.copy()
                    raws[index] = value
        return raws

    def _read(
        self,
        own: list[object],
        raws: list[object],
        inherited: Texts,
        known: tuple[Identity | None, ...],
    ) -> Identity:
        kept: list[object] = []
        key_texts: list[str | None] = []
        texts: list[str | None] = [None] * len(_FIELDS)
        shared: list[str | None] = [None] * len(_FIELDS)
        for index, (field, key, raw) in enumerate(zip(self._fields_of_keys, self._keys, raws, strict=True)):
            text = None if raw is None else self._text(index, raw, known)
            key_texts.append(text)
            kept.append(raw if text is not None or raw is None else _Unreadable(raw))
            if key == _THREAD and inherited[field] is not None:
                text = inherited[field]  # a nested graph's own thread belongs to the conversation around it
            if texts[field] is None and text is not None:
                texts[field] = text
                if own[index] is None:
                    shared[field] = text
        merged = _merged(tuple(texts), inherited)
        return Identity(kept, tuple(key_texts), merged, shared=tuple(shared), inherited=inherited)

    def _text(self, index: int, raw: object, known: tuple[Identity | None, ...]) -> str | None:
        for seen in known:
            if seen is not None:
                before = seen.raws[index]
                if before is raw or (type(before) is _Unreadable and before.address == id(raw)):
                    return seen.key_texts[index]
        try:
            return identifier(raw)
        except UnreadableError as error:
            self._on_unreadable(self._keys[index], str(error))
            return None


def merge_shared(known: Texts, identity: Identity) -> Texts:
    """Return what is known of a whole request, with what one of its runs has found in the config."""
    return known if identity.shared == NOTHING_SHARED else _merged(known, identity.shared)


def _merged(first: Texts, second: Texts) -> Texts:
    return tuple(two if one is None else one for one, two in zip(first, second, strict=True))


def _runtime_context() -> object:
    """Return LangGraph's runtime context of the code that runs; None if there is none."""
    # A graph can only run where this module has been imported.
    runtime = sys.modules.get("langgraph.runtime")
    if runtime is None:
        return None
    try:
        return getattr(runtime.get_runtime(), "context", None)
    except (AttributeError, KeyError, RuntimeError):  # an older LangGraph, or code outside a graph
        return None


def read_keys(keys: AttributionKeys | None) -> dict[str, tuple[str, ...]]:
    """Return the keys of every field; a field that is not named keeps its default.

    Raises:
        ConfigError: If a field is unknown or a key is no text.
    """
    found = dict(_DEFAULT_KEYS)
    if keys is None:
        return found
    if not isinstance(keys, Mapping):
        raise ConfigError(f"attribution_keys is {keys!r}, wanted a mapping such as {{'user_id': 'customer'}}.")
    for field, named in keys.items():
        if field not in _DEFAULT_KEYS:
            raise ConfigError(f"attribution_keys has the field {field!r}, wanted some of {list(_FIELDS)!r}.")
        names = (named,) if isinstance(named, str) else named
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
            raise ConfigError(
                f"attribution_keys[{field!r}] is {named!r}, wanted the name of a key, or a list of names."
            )
        found[field] = tuple(names)
    return found
