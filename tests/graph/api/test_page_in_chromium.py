"""The page in Chromium: from the question to the cost of its answer, also when the connection is cut."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from eco2_callbacks import LedgerSink
from graph.api import ApiSettings, FeedbackSender
from graph.replay import UnknownRequestError
from tests.support import fake_runtime
from tests.support.fake_model import COST, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.page_server import MAX_WAIT_MS, Gate, chromium, open_page, page_server
from tests.support.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.slow, pytest.mark.browser]

ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."
CALLS = 5  # of the fake graph, each at COST

expect.set_options(timeout=MAX_WAIT_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


def gated_answer(gate: Gate, words: list[str]) -> dict[str, Any]:
    """Return a node that writes its first word, and the others when the gate is open."""

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        text = ""
        async for chunk in FakeModel(words=words).astream(state["message"]):
            text += chunk.text
            await gate.wait()
        return {"answer": text}

    return {"answer": answer}


def ask(page: Page, question: str = "안녕!") -> None:
    """Ask by keyboard alone: the field has the focus."""
    page.keyboard.type(question)
    page.keyboard.press("Enter")


def until_done(page: Page, turns: int = 1) -> None:
    expect(page.locator(".turn[data-status=done]")).to_have_count(turns)


def job_of(page: Page, url: str) -> dict[str, Any]:
    """Return what the API says of the page's last answer."""
    ids = page.locator(".ids").last.text_content() or ""
    found = re.search(r"\b[0-9a-f]{32}\b", ids)
    assert found is not None, ids
    job: dict[str, Any] = httpx.get(f"{url}/api/v1/chat/{found[0]}", trust_env=False).json()
    return job


def names(page: Page) -> list[str]:
    """Return the names of the tree's rows, without the wait for a worker, which a quick machine does not show."""
    shown = page.locator(".timeline .row .name").all_text_contents()
    return [name for name in shown if name not in {"Waited for a worker", "차례 기다림"}]


def steps(page: Page) -> list[str]:
    """Return the ids of the tree's rows, in order."""
    found: list[str] = page.locator(".timeline .row[data-id]").evaluate_all("rows => rows.map((row) => row.dataset.id)")
    return found


def test_an_answer_shows_what_it_cost(browser: Browser, tmp_path: Path) -> None:
    """By keyboard from question to done: text, exact dollars, the tree with its steps, and the session's sum."""
    with page_server(tmp_path) as server, open_page(browser, server.url) as page:
        ask(page)
        until_done(page)
        job = job_of(page, server.url)
        first = page.locator(".turn").first
        shown, title = first.locator(".cost .usd").text_content(), first.locator(".cost .usd").get_attribute("title")
        words = first.locator(".cost").text_content() or ""
        rows = names(page)
        parts = first.locator(".row.model .usd").evaluate_all("cells => cells.map((cell) => cell.title)")
        bars = first.locator(".bar").evaluate_all("bars => bars.map((bar) => bar.getBoundingClientRect().width)")
        answer = first.locator(".text").text_content()
        page.locator("#message").focus()
        ask(page, "또 물어볼게")
        until_done(page, 2)
        total = page.locator("#session-usd").get_attribute("title")

    assert answer == job["answer"] == ANSWER
    assert Decimal(job["usd"]) == CALLS * COST == Decimal("0.01575")
    assert (shown, title) == ("$0.0158", "$0.01575")
    assert [Decimal(part.removeprefix("$")) for part in parts] == [COST] * CALLS
    assert rows[:2] == ["Whole answer", "Understand the question"]
    assert rows.count("gpt-5.2-2025-12-11") == CALLS
    assert all(width >= 3 for width in bars)
    assert "about 1.6 cents" in words
    assert "63 such answers for a dollar" in words
    assert "read 5,000 tokens, wrote 500" in words
    assert "40% of the cost is the step “Find places”" in words
    assert Decimal((total or "").removeprefix("$")) == 2 * CALLS * COST


def test_a_cost_without_prices_is_no_zero(browser: Browser, tmp_path: Path) -> None:
    """An unknown cost says so in the request, its nodes and its calls, and counts the calls that are left out."""

    async def unpriced(state: fake_runtime.State) -> fake_runtime.State:
        await FakeModel(model="nobody-knows-1", answered_by="nobody-knows-1", provider="nobody").ainvoke("x")
        return {}

    nodes = dict.fromkeys(("intent", "location", "web_search", "answer"), unpriced)
    with page_server(tmp_path, nodes=nodes) as server, open_page(browser, server.url) as page:
        ask(page)
        until_done(page)
        words = page.locator(".cost").text_content() or ""
        shown = page.locator(".row .usd").all_text_contents()

    assert "no price" in words
    assert "at least" not in words
    assert "4 model calls have no known price and are left out." in words
    assert set(shown) == {"Cost", "", "no price"}  # the router costs nothing
    assert shown.count("no price") == 9  # the request, 4 nodes and 4 calls


def test_the_tree_grows_while_the_answer_is_made(browser: Browser, tmp_path: Path) -> None:
    """Steps, tokens and dollars are there before the answer ends; what runs has a growing bar."""
    gate = Gate()
    nodes = gated_answer(gate, ["첫 ", "둘째 ", "셋째"])
    with page_server(tmp_path, nodes=nodes) as server, open_page(browser, server.url) as page:
        ask(page)
        expect(page.locator(".text")).to_have_text("첫")
        expect(page.locator(".row.model.running")).to_have_count(1)
        expect(page.locator(".cost .usd")).to_have_attribute("title", f"${((CALLS - 1) * COST).normalize()}")
        running = page.locator(".row.node.running")
        expect(running).to_have_count(1)
        before = running.locator(".seconds").text_content()
        expect(running.locator(".seconds")).not_to_have_text(before or "")
        state, name = page.locator(".turn").get_attribute("data-status"), running.locator(".name").text_content()
        gate.open()
        until_done(page)
        expect(page.locator(".row.running")).to_have_count(0)

    assert (state, name) == ("running", "Write the answer")


def test_a_cut_connection_loses_and_doubles_nothing(browser: Browser, tmp_path: Path) -> None:
    """The page says that it reconnects, goes on after its last event, and ends with the whole answer once."""
    gate = Gate()
    nodes = gated_answer(gate, ["하나 ", "둘 ", "셋 ", "넷"])
    with (
        page_server(tmp_path, nodes=nodes) as server,
        TcpProxy(int(server.url.rpartition(":")[2])) as proxy,
        open_page(browser, f"http://127.0.0.1:{proxy.port}", allowed_errors="Failed to load resource") as page,
    ):
        ask(page)
        expect(page.locator(".text")).to_have_text("하나")
        proxy.refuses = True
        proxy.cut_all()
        expect(page.locator("#connection")).to_contain_text("Connection lost")
        rows = steps(page)
        gate.open()
        until_answered(server.url, page)
        proxy.refuses = False
        until_done(page)
        expect(page.locator("#connection")).to_be_hidden()
        text, after = page.locator(".text").text_content(), steps(page)
        usd = page.locator(".cost .usd").get_attribute("title")

    assert text == "하나 둘 셋 넷"
    assert after == rows
    assert Decimal((usd or "").removeprefix("$")) == CALLS * COST
    assert server.recoveries == [("catch_up", "success")]


def until_answered(url: str, page: Page) -> None:
    """Wait until the job has ended on the server, unseen by the page."""
    while job_of(page, url)["status"] != "done":
        page.wait_for_timeout(20)


def test_a_question_survives_a_server_that_is_away(browser: Browser, tmp_path: Path) -> None:
    """It is sent again with the same key, so that it is answered and paid once."""
    with (
        page_server(tmp_path) as server,
        TcpProxy(int(server.url.rpartition(":")[2])) as proxy,
        open_page(browser, f"http://127.0.0.1:{proxy.port}", allowed_errors="Failed to load resource") as page,
    ):
        proxy.refuses = True
        proxy.cut_all()
        with page.expect_event("requestfailed", lambda request: request.method == "POST"):
            ask(page)
        proxy.refuses = False
        until_done(page)
        answer = page.locator(".text").text_content()

    assert answer == ANSWER


def test_a_reload_keeps_the_conversation(browser: Browser, tmp_path: Path) -> None:
    """Ended answers and a running one come back with their trees; the sum is the same."""
    gate = Gate()
    nodes = gated_answer(gate, ["하나 ", "둘"])
    with page_server(tmp_path, nodes=nodes) as server, open_page(browser, server.url) as page:
        ask(page)
        expect(page.locator(".text")).to_have_text("하나")
        page.reload()
        expect(page.locator(".text")).to_have_text("하나")
        gate.open()
        until_done(page)
        before = (names(page), page.locator("#session-usd").get_attribute("title"))
        page.reload()
        until_done(page)
        after = (names(page), page.locator("#session-usd").get_attribute("title"))
        expect(page.locator(".text")).to_have_text("하나 둘")
        page.get_by_role("button", name="New chat").click()
        expect(page.locator(".turn")).to_have_count(0)
        expect(page.locator("#session-usd")).to_have_text("$0")

    assert after == before


def test_feedback_reaches_langsmith_and_the_ledger(browser: Browser, tmp_path: Path) -> None:
    """A thumb and a comment on the page are on LangSmith's run; the score is in the ledger; the page says so."""
    ledger_file = tmp_path / "eco2.db"
    with (
        LangSmithServer() as langsmith,
        langsmith.client() as client,
        LedgerSink(ledger_file) as ledger,
    ):
        feedback = FeedbackSender(client, ledger=ledger)
        with page_server(tmp_path, feedback=feedback) as server, open_page(browser, server.url) as page:
            ask(page)
            until_done(page)
            page.get_by_role("button", name="Not helpful").click()
            page.get_by_label("Comment").fill("너무 짧아요")
            page.keyboard.press("Enter")
            expect(page.locator(".feedback")).to_have_text("Thank you. Saved in: cost ledger, LangSmith.")
        client.flush()
        (sent,) = [one for one in langsmith.feedback if one["key"] == "user_score"]

    with closing(sqlite3.connect(ledger_file)) as connection:
        (row,) = connection.execute("SELECT trace_id, score FROM feedback").fetchall()
    assert (sent["score"], sent["comment"]) == (0, "너무 짧아요")
    assert (UUID(row[0]), float(row[1])) == (UUID(sent["trace_id"]), 0.0)


def test_escape_stops_the_answer_and_its_cost_is_kept(browser: Browser, tmp_path: Path) -> None:
    """The page says what it cost up to there, by an estimate of the call that was cut, and takes the next question."""
    gate = Gate()
    nodes = gated_answer(gate, ["하나 ", "둘"])
    with page_server(tmp_path, nodes=nodes) as server, open_page(browser, server.url) as page:
        ask(page)
        expect(page.locator(".text")).to_have_text("하나")
        page.keyboard.press("Escape")
        expect(page.locator(".turn[data-status=error] .status")).to_have_text(
            re.compile(r"Stopped\. It cost \$0\.0\d+ up to here\. Part of it is an estimate\.")
        )
        gate.open()
        page.get_by_role("button", name="Ask again").click()
        until_done(page)


def test_a_question_that_was_not_recorded_says_so(browser: Browser, tmp_path: Path) -> None:
    """A server that replays knows the example questions only; whoever asks something else learns it."""

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        raise UnknownRequestError(tmp_path / "joined.yaml", ["POST ..."])

    with page_server(tmp_path, nodes={"router": router}) as server, open_page(browser, server.url) as page:
        ask(page)
        status = page.locator(".turn[data-status=error] .status")
        expect(status).to_contain_text("The answer failed. This server only replays recordings.")
        page.locator("#language").click()
        expect(status).to_contain_text("예시 질문")


def test_the_tree_is_used_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    """One row is in the tab order; arrows move, close and open; screen readers get levels and states."""
    with page_server(tmp_path) as server, open_page(browser, server.url) as page:
        ask(page)
        until_done(page)
        rows = page.locator(".timeline [role=rowgroup] >> nth=1").locator("[role=row]")
        stops = rows.evaluate_all("rows => rows.filter((row) => row.tabIndex === 0).length")
        count = rows.count()
        rows.first.focus()
        page.keyboard.press("ArrowDown")
        node = page.locator(".row:focus")
        level, opened = node.get_attribute("aria-level"), node.get_attribute("aria-expanded")
        page.keyboard.press("ArrowLeft")
        closed, fewer = node.get_attribute("aria-expanded"), rows.count()
        page.keyboard.press("ArrowRight")
        again = rows.count()
        page.keyboard.press("End")
        expect(rows.last).to_be_focused()

    assert stops == 1
    assert (level, opened, closed) == ("2", "true", "false")
    assert (fewer, again) == (count - 1, count)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_everything_fits(browser: Browser, tmp_path: Path, scheme: Any) -> None:
    """In both themes nothing is wider than the screen, buttons are large enough, and text has contrast."""
    options = {"viewport": {"width": 360, "height": 740}, "is_mobile": True, "has_touch": True, "color_scheme": scheme}
    with page_server(tmp_path) as server, open_page(browser, server.url, locale="ko-KR", **options) as page:
        page.locator("#examples button").first.tap()
        until_done(page)
        width = page.evaluate("document.scrollingElement.scrollWidth")
        heights = page.locator("button:visible").evaluate_all("all => all.map((each) => each.offsetHeight)")
        contrast = page.evaluate(CONTRAST)
        page.locator("#theme").tap()
        page.locator("#theme").tap()
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")

    assert width <= 360
    assert min(heights) >= 36
    assert min(contrast.values()) >= 4.5, contrast
    assert background == "rgb(16, 20, 15)"  # auto, light, dark


# WCAG's contrast of each element's text with the first background below it.
CONTRAST = """() => {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const channels = (color) => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (color) => [...channels(color)].slice(0, 3)
    .map((part) => part / 255).map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return /, 0\\)$|transparent/.test(color) ? behind(node.parentElement) : color;
  };
  const found = {};
  for (const node of document.querySelectorAll("p, strong, span, button, summary, .row > *")) {
    if (!node.checkVisibility() || !node.textContent.trim() || node.closest(":disabled, .sr")) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))].sort((x, y) => y - x);
    found[`${node.localName}.${node.className}: ${node.textContent.slice(0, 30)}`] = (a + 0.05) / (b + 0.05);
  }
  return found;
}"""


def test_the_language_changes_everything_but_the_conversation(browser: Browser, tmp_path: Path) -> None:
    """Every word of the page is in the other language, and no text of one is missing in the other."""
    with page_server(tmp_path) as server, open_page(browser, server.url, locale="ko-KR") as page:
        ask(page)
        until_done(page)
        korean = (page.locator("html").get_attribute("lang"), page.locator("#send").text_content(), names(page)[1])
        page.locator("#language").click()
        english = (page.locator("html").get_attribute("lang"), page.locator("#send").text_content(), names(page)[1])
        shown = page.locator(".tools, .status, .cost, .how > summary, .legend, .feedback, .name").all_text_contents()
        shapes = page.evaluate(
            """async () => {
              const { texts, switchLanguage } = await import("/page/texts.js");
              const shape = (each) => Object.fromEntries(Object.entries(each).map(
                ([key, value]) => [key, value && typeof value === "object" ? shape(value) : typeof value]));
              const one = shape(texts());
              switchLanguage();
              return [one, shape(texts())];
            }"""
        )
        text = page.locator(".text").text_content()

    assert korean == ("ko", "보내기", "의도 파악")
    assert english == ("en", "Send", "Understand the question")
    assert not re.search("[가-힣]", "".join(shown).replace("한국어", ""))
    assert shapes[0] == shapes[1]
    assert text == ANSWER


def test_enter_ends_a_korean_syllable_and_sends_nothing(browser: Browser, tmp_path: Path) -> None:
    """While an input method composes, Enter belongs to it."""
    with page_server(tmp_path) as server, open_page(browser, server.url) as page:
        page.locator("#message").fill("안녕")
        page.locator("#message").dispatch_event("keydown", {"key": "Enter", "isComposing": True, "bubbles": True})
        composing = page.locator(".turn").count()
        page.keyboard.press("Shift+Enter")
        with_line_break = page.locator(".turn").count()
        page.keyboard.press("Enter")
        until_done(page)

    assert (composing, with_line_break) == (0, 0)


def test_an_answer_is_text_and_never_html(browser: Browser, tmp_path: Path) -> None:
    """Tags are shown as they are; bold, lists and links of an answer are elements; other addresses are text."""
    gate = Gate()
    gate.open()
    words = [
        '<img src=x onerror="document.title=1"> **굵게**\n',
        "- [안내](https://example.com/a?b=1)\n",
        "- [x](javascript:alert(1))\n",
    ]
    with (
        page_server(tmp_path, nodes=gated_answer(gate, words)) as server,
        open_page(browser, server.url) as page,
    ):
        ask(page)
        until_done(page)
        text = page.locator(".text")
        found = {tag: text.locator(tag).count() for tag in ("img", "strong", "li", "a")}
        link, shown = text.locator("a").get_attribute("href"), text.text_content() or ""
        title = page.title()

    assert found == {"img": 0, "strong": 1, "li": 2, "a": 1}
    assert (link, title) == ("https://example.com/a?b=1", "Eco2")
    assert '<img src=x onerror="document.title=1">' in shown
    assert "javascript:alert(1)" in shown


def test_the_page_asks_for_a_token(browser: Browser, tmp_path: Path) -> None:
    """Where the server needs one; then the question is asked again, and a reload remembers it."""
    tokens = tmp_path / "tokens.toml"
    digest = hashlib.sha256(b"secret").hexdigest()
    tokens.write_text(f'[[token]]\nsha256 = "{digest}"\ntenant_id = "acme"\nuser_id = "alice"')
    settings = ApiSettings(tokens_file=tokens)
    with (
        page_server(tmp_path, settings) as server,
        open_page(browser, server.url, allowed_errors="401") as page,
    ):
        ask(page)
        page.get_by_role("dialog").get_by_label("Access token").fill("secret")
        page.keyboard.press("Enter")
        until_done(page)
        page.reload()
        until_done(page)
        kept = page.evaluate("JSON.stringify([localStorage, document.cookie])")

    assert "secret" not in kept
