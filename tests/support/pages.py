"""Reads the README and the pages of ``docs/``: their code blocks, their commands and their links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PAGES", "ROOT", "Command", "blocks", "commands", "links", "read"]

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")),
)
"""Paths below the root."""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```", re.DOTALL | re.MULTILINE)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}\S.*\n)+)")
_INLINE = re.compile(r"`((?:uv run|uvx|python|pytest|eco2|bash|pip install|curl|docker|kubectl|promtool) [^`\n]+)`")
_SHELLS = ("bash", "console", "sh", "shell")


@dataclass(frozen=True, slots=True)
class Command:
    """A command that a page tells its reader to run, without its comment."""

    page: str
    text: str
    inline: bool = False
    """Named in a sentence, perhaps without its arguments."""


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page: str, language: str) -> list[str]:
    """Return the texts of the fenced blocks in a language, without their indentation."""
    return [
        "".join(line.removeprefix(found["indent"]) for line in found["text"].splitlines(keepends=True))
        for found in _FENCE.finditer(read(page))
        if found["language"] == language
    ]


def commands(page: str) -> Iterator[Command]:
    """Yield the commands of a page: in shell blocks, in indented blocks, and in the text."""
    for language in _SHELLS:
        for block in blocks(page, language):
            yield from _lines(page, block)
    rest = _FENCE.sub("", read(page))
    for found in _INDENTED.finditer(rest):
        yield from _lines(page, "".join(line[4:] for line in found[1].splitlines(keepends=True)))
    for found in _INLINE.finditer(_INDENTED.sub("", rest)):
        yield Command(page, found[1].strip(), inline=True)


def links(page: str) -> list[str]:
    """Return the targets of a page's links and pictures, without those to other hosts."""
    text = _FENCE.sub("", read(page))
    return [link for link in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"https?:|mailto:", link)]


def _lines(page: str, block: str) -> Iterator[Command]:
    for line in block.replace("\\\n", " ").splitlines():
        if text := re.sub(r"(^|\s+)#\s.*$", "", line.removeprefix("$ ")).strip():
            yield Command(page, text)
