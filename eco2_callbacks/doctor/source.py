"""Checks of an application's source, read and never run: what makes tokens zero, double or invisible."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from eco2_callbacks.doctor.findings import Finding, Level

__all__ = ["check_source"]

_MAX_FILES = 5000
_SKIPPED = frozenset({"node_modules", "site-packages", "build", "dist", "__pycache__", "tests", "test", "venv", "env"})
_OPENAI_MODELS = frozenset({"ChatOpenAI", "AzureChatOpenAI"})
_MODELS = _OPENAI_MODELS | {"ChatAnthropic", "ChatGoogleGenerativeAI", "init_chat_model"}
_OWN_CLIENTS = ("base_url", "openai_api_base", "http_client", "http_async_client", "openai_proxy")
_HANDLER = "Eco2CallbackHandler"
_EMBEDDINGS = frozenset({"OpenAIEmbeddings", "AzureOpenAIEmbeddings", "GoogleGenerativeAIEmbeddings"})
_SDK_CALLS = (
    *("chat.completions.create", "chat.completions.parse", "responses.create", "responses.parse", "embeddings.create"),
    *("messages.create", "messages.stream", "models.generate_content", "models.generate_content_stream"),
)
_SDK_MODULES = ("openai", "anthropic", "google.genai", "google")


def check_source(root: Path) -> Iterator[Finding]:
    """Yield what the Python files below a folder, or one file, say about their model calls."""
    files = [root] if root.is_file() else sorted(islice(_files(root), _MAX_FILES + 1))
    if len(files) > _MAX_FILES:
        message = f"{root} holds more than {_MAX_FILES:,} Python files; the rest is not read."
        yield Finding(check="source", level="info", message=message, remedy="Name the application's own folder.")
    trees = []
    for path in files[:_MAX_FILES]:
        try:
            trees.append((path, ast.parse(path.read_bytes(), str(path))))
        except (OSError, SyntaxError, ValueError) as error:
            message = f"The file cannot be read: {type(error).__name__}."
            yield _at(path, None, "source", "info", message, "Check it by hand.")
    called = {_name(node.func) for _, tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)}
    for path, tree in trees:
        yield from _File(path, tree, installs="install" in called, counts="count_sdk_retries" in called).findings()


class _File:
    """One file's findings."""

    def __init__(self, path: Path, tree: ast.Module, *, installs: bool, counts: bool) -> None:
        self._path = path
        self._tree = tree
        self._installs = installs
        self._counts = counts
        self._handlers = _assigned_handlers(tree)
        self._imports_sdk = any(name.startswith(_SDK_MODULES) for name in _imported(tree))

    def findings(self) -> Iterator[Finding]:
        yield from self._visit(self._tree, measured=False)

    def _visit(self, node: ast.AST, *, measured: bool) -> Iterator[Finding]:
        if isinstance(node, ast.With | ast.AsyncWith):
            opened = {_name(item.context_expr.func) for item in node.items if isinstance(item.context_expr, ast.Call)}
            measured = measured or "call" in opened
        if isinstance(node, ast.Call):
            yield from self._call(node, measured=measured)
            if _name(node.func) == "MeasuredEmbeddings":
                measured = True
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "callbacks":
                    yield from self._callbacks(value)
        for child in ast.iter_child_nodes(node):
            yield from self._visit(child, measured=measured)

    def _call(self, node: ast.Call, *, measured: bool) -> Iterator[Finding]:
        name = _name(node.func)
        options = {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        if "callbacks" in options:
            yield from self._callbacks(options["callbacks"])
        if name in _OPENAI_MODELS:
            yield from self._stream_usage(node, options)
        if name in _MODELS and not _is(options.get("max_retries"), 0) and not self._counts:
            message = f"{name} repeats failed requests inside its SDK; each may be billed, and none is seen."
            remedy = "Use handler.count_sdk_retries(model), or max_retries=0 with .with_retry()."
            yield self._found(node, "sdk-retries", "info", message, remedy)
        if measured:
            return
        if name in _EMBEDDINGS:
            message = f"{name} fires no callback: its tokens and dollars are not counted."
            yield self._found(node, "past-handler", "warning", message, f"Wrap it: MeasuredEmbeddings({name}(...)).")
        elif self._imports_sdk and _dotted(node.func).endswith(_SDK_CALLS):
            message = "A model is called by its own SDK, past the handler."
            remedy = "Put the call into `with handler.call(provider=..., model=...) as call:`, see docs/attaching.md."
            yield self._found(node, "past-handler", "warning", message, remedy)

    def _stream_usage(self, node: ast.Call, options: dict[str, ast.expr]) -> Iterator[Finding]:
        if _is(options.get("stream_usage"), False):
            message = "stream_usage=False: streamed answers report no tokens, so they are estimated."
            yield self._found(node, "stream-usage", "warning", message, "Pass stream_usage=True.")
        elif "stream_usage" not in options and (own := [name for name in _OWN_CLIENTS if name in options]):
            message = f"With {own[0]}= ChatOpenAI asks for no usage in streams; they are estimated."
            yield self._found(node, "stream-usage", "warning", message, "Pass stream_usage=True as well.")

    def _callbacks(self, value: ast.expr) -> Iterator[Finding]:
        if not isinstance(value, ast.List):
            return
        names = [_dotted(element) for element in value.elts if isinstance(element, ast.Name | ast.Attribute)]
        handlers = [name for name in names if name in self._handlers]
        made = sum(isinstance(element, ast.Call) and _name(element.func) == _HANDLER for element in value.elts)
        if len(set(names)) < len(names) or len(handlers) + made > 1:
            message = "The handler stands twice in one list of callbacks."
            yield self._found(value, "handler-twice", "warning", message, "Pass one handler once for the process.")
        if not value.elts and not self._installs:
            message = "callbacks=[] detaches the handler from these calls."
            yield self._found(value, "past-handler", "warning", message, "Leave it out, or use handler.install().")

    def _found(self, node: ast.AST, check: str, level: Level, message: str, remedy: str) -> Finding:
        return _at(self._path, getattr(node, "lineno", None), check, level, message, remedy)


def _at(path: Path, line: int | None, check: str, level: Level, message: str, remedy: str) -> Finding:
    where = str(path) if line is None else f"{path}:{line}"
    return Finding(check=check, level=level, message=message, remedy=remedy, where=where)


def _files(folder: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            if not entry.name.startswith(".") and entry.name not in _SKIPPED:
                yield from _files(entry)
        elif entry.suffix == ".py" and not entry.name.startswith("test_"):
            yield entry


def _assigned_handlers(tree: ast.Module) -> set[str]:
    return {
        _dotted(target)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and _name(node.value.func) == _HANDLER
        for target in node.targets
    }


def _imported(tree: ast.Module) -> Sequence[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or "")
    return names


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def _is(node: ast.expr | None, value: object) -> bool:
    return (isinstance(node, ast.Constant) and node.value is value) or (
        isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value
    )
