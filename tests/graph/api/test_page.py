"""The page's files: what the server sends, and that no text is missing."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from graph.api import ApiSettings
from graph.build import build_graph
from graph.cli import CONVERSATIONS
from tests.support.api_server import api_server
from tests.support.programs import program

STATIC = Path(__file__).parents[3] / "graph" / "api" / "static"


def policy(text: str) -> dict[str, str]:
    return dict(directive.strip().partition(" ")[::2] for directive in text.split(";"))


@pytest.mark.parametrize("path", ["/", "/page/app.js", "/page/style.css", "/page/icon.svg"])
async def test_the_page_has_a_strict_policy(tmp_path: Path, path: str) -> None:
    """Every file comes with it: only own scripts, none inline, no frame, no HTML from text."""
    async with api_server(tmp_path) as server:
        answer = await server.client.get(path)

    assert answer.status_code == 200
    rules = policy(answer.headers["content-security-policy"])
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert rules["frame-ancestors"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert rules["require-trusted-types-for"] == "'script'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(" ".join(rules.values()).split())
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


async def test_the_page_needs_no_token_and_holds_no_data(tmp_path: Path) -> None:
    """It asks for the token itself; the API behind it still refuses requests without one."""
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(f'[[token]]\nsha256 = "{"0" * 64}"\ntenant_id = "acme"')
    async with api_server(tmp_path, ApiSettings(tokens_file=tokens)) as server:
        page = await server.client.get("/")
        asked = await server.client.post("/api/v1/chat", json={"message": "안녕!"})

    assert (page.status_code, asked.status_code) == (200, 401)


async def test_a_browser_loads_a_file_once(tmp_path: Path) -> None:
    """It asks each time, so that a new version is seen at once, and gets 304 for the same one."""
    async with api_server(tmp_path) as server:
        first = await server.client.get("/page/app.js")
        again = await server.client.get("/page/app.js", headers={"If-None-Match": first.headers["etag"]})

    assert (first.headers["cache-control"], again.status_code, again.content) == ("no-cache", 304, b"")


@pytest.mark.parametrize("path", ["/", "/page/app.js"])
async def test_a_monitor_may_ask_for_the_head(tmp_path: Path, path: str) -> None:
    """HEAD has the headers of GET and no body."""
    async with api_server(tmp_path) as server:
        head, whole = await server.client.head(path), await server.client.get(path)

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == whole.headers["content-length"]


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2fapp.py", "/page/%2e%2e/routes.py", "/page/"])
async def test_no_other_file_is_served(tmp_path: Path, path: str) -> None:
    """A path that leads elsewhere is a problem like every other one."""
    async with api_server(tmp_path) as server:
        answer = await server.client.get(path)

    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


# A document that is enough for dom.js, and a print of what it builds: tags and texts, and the number of an item.
PROSE = """
import { readFileSync } from "node:fs";
import { prose } from "./dom.mjs";
globalThis.document = {
  createElement: (localName) => ({
    localName, children: [], value: "",
    append(...parts) { this.children.push(...parts); },
    setAttribute(name, value) { if (name === "value") this.value = value; },
  }),
};
const shown = (part) =>
  typeof part === "string" ? part : `<${part.localName}${part.value}>${part.children.map(shown).join("")}`;
console.log(prose(readFileSync(0, "utf8")).map(shown).join("\\n"));
"""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("1. 비우기\n2. 헹구기", "<ol><li1>비우기<li2>헹구기"),
        ("1. 비우기\n   - 물로\n2. 헹구기", "<ol><li1>비우기\n<ul><li>물로\n<ol><li2>헹구기"),
        ("1. 비우기\n\n설명\n\n2. 헹구기", "<ol><li1>비우기\n<p>설명\n<ol><li2>헹구기"),
        ("10) 마지막", "<ol><li10>마지막"),
        ("2026. 11. 1. 시행", "<p>2026. 11. 1. 시행"),
        ("1.5kg", "<p>1.5kg"),
    ],
    ids=["list", "list_with_a_list", "list_with_a_paragraph", "one_item", "date", "number"],
)
def test_the_numbers_of_an_answer_stay(tmp_path: Path, text: str, shown: str) -> None:
    """A list goes on with its own numbers, and a date that begins a line is no item of a list."""
    node = program("node", package="nodejs")
    (tmp_path / "dom.mjs").write_bytes((STATIC / "dom.js").read_bytes())
    (tmp_path / "prose.mjs").write_text(PROSE)

    done = subprocess.run(
        [node, "prose.mjs"], cwd=tmp_path, input=text.encode(), capture_output=True, timeout=300, check=True
    )

    assert done.stdout.decode().rstrip("\n") == shown


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """No file names another host, but for the namespace of SVG."""
    for path in STATIC.iterdir():
        addresses = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org"}, path.name


def test_every_node_has_a_name_in_both_languages() -> None:
    """A node that is added to the graph needs two words on the page."""
    texts = (STATIC / "texts.js").read_text(encoding="utf-8")
    tables = re.findall(r"nodes: \{(.*?)\n  \}", texts, re.DOTALL)
    named = [set(re.findall(r"(\w+): \"", table)) for table in tables]

    nodes = {node for node in build_graph().nodes if not node.startswith("__")}
    assert len(named) == 2
    assert named == [nodes, nodes]


def test_the_example_questions_are_recorded() -> None:
    """A server that replays answers every question that the page offers, in both languages."""
    texts = (STATIC / "texts.js").read_text(encoding="utf-8")
    offered = [re.findall(r'"(.*?)"', listed) for listed in re.findall(r"questions: \[(.*?)\]", texts)]

    assert [len(questions) for questions in offered] == [5, 5]
    for questions, language in zip(offered, ("ko", "en"), strict=True):
        assert set(questions) <= {one.message for one in CONVERSATIONS[language].values()}
