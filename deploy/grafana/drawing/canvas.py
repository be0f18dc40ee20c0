"""The canvas: pixels from the upper left, the colours of Grafana's dark theme, boxes, texts and graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle
from PIL import Image

__all__ = ["FAINT", "GRID", "LINK", "PALETTE", "TEXT", "Box", "Canvas", "color_at", "named"]

_BACKGROUND, _PANEL, _BORDER = "#111217", "#181b1f", "#2b2d33"
TEXT, FAINT, GRID, LINK = "#ccccdc", "#8e8e9c", "#282b31", "#6e9fff"
PALETTE: Final = (
    *("#73BF69", "#F2CC0C", "#8AB8FF", "#FF780A", "#F2495C", "#5794F2", "#B877D9", "#705DA0", "#37872D", "#FADE2A"),
    *("#447EBC", "#C15C17", "#890F02", "#0A437C", "#6D1F62", "#584477", "#B7DBAB", "#F4D598", "#70DBED", "#F9BA8F"),
)
_NAMED: Final[Mapping[str, str]] = MappingProxyType({"green": "#73BF69", "red": "#F2495C", "blue": "#5794F2"})
_DPI: Final = 100
_COLORS: Final = 64  # of the picture; that keeps the file small
_KEPT: Final = (*PALETTE[:12], *_NAMED.values(), _BACKGROUND, _PANEL, TEXT, FAINT, LINK, "#EAB839")
_STRIP: Final = 8  # pixels


class Box(NamedTuple):
    """A part of the canvas, in pixels."""

    x: float
    y: float
    width: float
    height: float

    def inside(self, left: float, top: float, right: float, bottom: float) -> Box:
        """Return what is left of it between these margins."""
        return Box(self.x + left, self.y + top, self.width - left - right, self.height - top - bottom)


class Canvas:
    """A picture of so many pixels."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI, facecolor=_BACKGROUND)
        FigureCanvasAgg(self._figure)
        self._page = self._figure.add_axes((0, 0, 1, 1))
        self._page.set(xlim=(0, width), ylim=(height, 0))
        self._page.axis("off")

    def panel(self, box: Box) -> None:
        """Draw a panel's background."""
        style = "round,pad=0,rounding_size=3"
        self._page.add_patch(
            FancyBboxPatch(box[:2], box.width, box.height, boxstyle=style, fc=_PANEL, ec=_BORDER, lw=0.8)
        )

    def rectangle(self, box: Box, color: str) -> None:
        """Fill a rectangle."""
        self._page.add_patch(Rectangle(box[:2], box.width, box.height, fc=color, ec="none"))

    def line(self, x: float, y: float, width: float, color: str = GRID) -> None:
        """Draw a horizontal line."""
        self._page.plot((x, x + width), (y, y), color=color, lw=0.8, solid_capstyle="butt")

    def text(
        self,
        x: float,
        y: float,
        text: str,
        *,
        size: float = 12,
        color: str = TEXT,
        align: Literal["left", "center", "right"] = "left",
        room: float | None = None,
    ) -> float:
        """Write a text around the height ``y``, cut to the room there is, and return its width."""
        drawn = self._page.text(
            x,
            y,
            text.replace("$", r"\$"),
            size=size * 72 / _DPI,
            color=color,
            ha=align,
            va="center_baseline",
        )
        width = self._width(drawn)
        while room is not None and width > room and len(text) > 1:
            text = text[:-2].rstrip(" …") + "…"
            drawn.set_text(text.replace("$", r"\$"))
            width = self._width(drawn)
        return width

    def width_of(self, text: str, size: float = 12) -> float:
        """Return how wide a text would be."""
        drawn = self._page.text(0, 0, text.replace("$", r"\$"), size=size * 72 / _DPI)
        width = self._width(drawn)
        drawn.remove()
        return width

    def axes(self, box: Box) -> Axes:
        """Return axes that fill a part of the canvas."""
        bottom = self.height - box.y - box.height
        place = (box.x / self.width, bottom / self.height, box.width / self.width, box.height / self.height)
        axes = self._figure.add_axes(place)
        axes.set_facecolor("none")
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def png(self) -> bytes:
        """Return the picture."""
        drawn, small = BytesIO(), BytesIO()
        self._figure.savefig(drawn, format="png", facecolor=_BACKGROUND)
        image = Image.open(drawn).convert("RGB")
        # Thin lines have few pixels: a strip of their colours makes them count.
        sample = Image.new("RGB", (self.width, self.height + len(_KEPT) * _STRIP))
        sample.paste(image)
        for number, color in enumerate(_KEPT):
            sample.paste(color, (0, self.height + number * _STRIP, self.width, self.height + (number + 1) * _STRIP))
        palette = sample.quantize(_COLORS, Image.Quantize.MEDIANCUT, kmeans=1)
        image.quantize(palette=palette, dither=Image.Dither.NONE).save(small, format="png", optimize=True)
        return small.getvalue()

    def _width(self, drawn: Any) -> float:
        return float(drawn.get_window_extent(self._figure.canvas.get_renderer()).width)


def named(color: str) -> str:
    """Return a colour that Grafana has a name for."""
    return _NAMED.get(color, color)


def color_at(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """Return the colour that a value has by the thresholds."""
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return named(reached[-1])
