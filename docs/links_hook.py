"""Points links that leave ``docs/`` at the repository, so that a page serves its readers there and on the site."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

__all__ = ["on_page_markdown"]

# MkDocs fails a strict build for warnings of loggers below its own.
_log = logging.getLogger("mkdocs.hooks.links")
_LINK = re.compile(r"\]\((\.\./[^)\s#]*)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Return a page's text with its links out of the folder replaced. A link to nothing is a warning."""
    folder = Path(config["docs_dir"]).resolve()
    root = folder.parent

    def replace(link: re.Match[str]) -> str:
        target = (Path(page.file.abs_src_path).parent / link[1]).resolve()
        if target.is_relative_to(folder):
            return link[0]
        if not (target.is_relative_to(root) and target.exists()):
            _log.warning("%s links to %s, which does not exist", page.file.src_uri, link[1])
            return link[0]
        kind = "tree" if target.is_dir() else "blob"
        address = urljoin(config["repo_url"].rstrip("/") + "/", f"{kind}/main/{target.relative_to(root).as_posix()}")
        return f"]({address}{link[2] or ''})"

    return _LINK.sub(replace, markdown)
