"""One self-contained HTML page with plotly's charts."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from eco2_callbacks.errors import LedgerError

__all__ = ["chart_text", "page", "table_html"]

_STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1300px; padding: 0 1rem; color: #1d2733; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.dim { color: #5f6b7a; } .tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { border: 1px solid #dfe5ec; border-radius: 8px; padding: .6rem 1rem; min-width: 8rem; }
.tile b { display: block; font-size: 1.3rem; } .tile span { color: #5f6b7a; font-size: .85rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; width: 100%; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #e7ecf2; text-align: right; white-space: nowrap; }
th.text, td.text { text-align: left; } th { color: #5f6b7a; font-weight: 600; } tfoot td { font-weight: 600; }
"""
# The page loads nothing: its scripts and styles are inside.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"
)
_CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["toImage", "lasso2d", "select2d"]}


def chart_text(text: str) -> str:
    """Return a text that a chart shows as it is: plotly reads some tags."""
    return html.escape(text, quote=False)


def table_html(head: Sequence[str], rows: Sequence[Sequence[str]], foot: Sequence[str] = (), *, texts: int) -> str:
    """Return a table; the first ``texts`` columns are texts, the others numbers."""

    def cells(tag: str, values: Sequence[str]) -> str:
        kinds = (" class=text" if number < texts else "" for number in range(len(values)))
        return "".join(f"<{tag}{kind}>{html.escape(value)}</{tag}>" for kind, value in zip(kinds, values, strict=True))

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    footer = f"<tfoot><tr>{cells('td', foot)}</tr></tfoot>" if foot else ""
    header = f"<thead><tr>{cells('th', head)}</tr></thead>"
    return f"<div class=scroll><table>{header}<tbody>{body}</tbody>{footer}</table></div>"


def page(title: str, body: str, charts: Sequence[tuple[str, Sequence[Mapping[str, Any]], Mapping[str, Any]]]) -> str:
    """Return a page.

    Args:
        title: Its title, as plain text.
        body: Its HTML, with one empty element for each chart.
        charts: Id of the element, plotly's traces and its layout.

    Raises:
        LedgerError: If the extra is not installed.
    """
    try:
        from plotly.offline import get_plotlyjs  # noqa: PLC0415  an extra
    except ImportError as error:
        raise LedgerError("An HTML page needs the extra 'html': pip install 'eco2-callbacks[html]'.") from error
    calls = "".join(
        f"Plotly.newPlot({_script(element)}, {_script(traces)}, {_script(layout)}, {_script(_CONFIG)});\n"
        for element, traces, layout in charts
    )
    return (
        "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name=viewport content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n"
        f"<script>{get_plotlyjs()}</script>\n<script>\n{calls}</script>\n</body>\n</html>\n"
    )


def _script(value: Any) -> str:
    """Return a value as JSON that cannot end its script element."""
    return msgspec.json.encode(value).decode().replace("<", "\\u003c").replace("\u2028", "\\u2028")
