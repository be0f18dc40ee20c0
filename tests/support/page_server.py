"""The API with its page on a thread of its own, and Debian's Chromium on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from tests.support.api_server import ApiServer, api_server
from tests.support.programs import program

__all__ = ["MAX_WAIT_MS", "Gate", "chromium", "open_page", "page_server"]

MAX_WAIT_MS = 120_000.0  # of any one condition; no test relies on it
_NO_NETWORK = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"


class Gate:
    """Holds a node of the graph until the test opens it."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    async def wait(self) -> None:
        while not self._open.is_set():
            await asyncio.sleep(0.01)


@contextmanager
def page_server(
    tmp_path: Path, *arguments: Any, nodes: dict[str, Callable[..., Any]] | None = None, **options: Any
) -> Iterator[ApiServer]:
    """Serve during the block, with the arguments of ``api_server``. Its attributes belong to another thread's loop."""
    started: Future[tuple[ApiServer, asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    async def serve() -> None:
        stop = asyncio.Event()
        async with api_server(tmp_path, *arguments, **options, **(nodes or {})) as server:
            started.set_result((server, asyncio.get_running_loop(), stop))
            await stop.wait()

    def run() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="page-server")
    thread.start()
    server, loop, stop = started.result()
    try:
        yield server
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run the browser during the block, without a network."""
    path = program("chromium", package="chromium")
    options = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", _NO_NETWORK]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=options, timeout=MAX_WAIT_MS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def open_page(
    browser: Browser, url: str, *, locale: str = "en-US", allowed_errors: str = "", **options: Any
) -> Iterator[Page]:
    """Open the page in a fresh profile during the block; then assert that nothing on it failed.

    Args:
        browser: The browser.
        url: The page's address.
        locale: The browser's language.
        allowed_errors: A part of the browser's error messages that the test provokes.
        options: Options of Playwright's ``new_context``.
    """
    problems: list[str] = []
    context = browser.new_context(locale=locale, **options)
    context.set_default_timeout(MAX_WAIT_MS)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type in {"error", "warning"} else None)
    try:
        page.goto(url)
        yield page
    finally:
        context.close()
    # A violation of the content security policy is one of them.
    assert [problem for problem in problems if not allowed_errors or allowed_errors not in problem] == []
