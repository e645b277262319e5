"""How every picture is drawn: without pyplot and its global state, and the same bytes of the same numbers."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUM_COLORS = 32
"""Colors of a picture: text and a few areas need no more, and it is a third of the size."""
WIDTH_INCHES, DOTS_PER_INCH = 6.4, 100
GREY, GRID_COLOR = "#555555", "#e4e4e4"


def draw_figure(plot: Callable[[Figure], None], height_inches: float, file_format: str = "png") -> bytes:
    """A picture, 640 pixels wide.

    Args:
        plot: Draws on the empty figure.
        height_inches: Its height; 100 pixels are an inch.
        file_format: png, or svg with its text as text.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells of its font cache when it is first imported
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tunesmith", "font.size": 9.5}):
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        plot(figure)
        metadata = {"Date": None} if file_format == "svg" else {}
        figure.savefig(picture, format=file_format, metadata=metadata)
    return picture.getvalue() if file_format == "svg" else _shrink(picture)


def clear_axes(axes: Axes, grid: Literal["both", "x", "y"]) -> None:
    """A grid behind what is drawn, and no frame but the axes.

    Args:
        axes: Where.
        grid: The axes whose ticks have lines.
    """
    axes.grid(color=GRID_COLOR, linewidth=0.8, axis=grid)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _shrink(picture: io.BytesIO) -> bytes:
    from PIL import Image

    shrunk = io.BytesIO()
    with Image.open(picture) as image:
        flat = image.convert("RGB").quantize(NUM_COLORS, dither=Image.Dither.NONE)
        flat.save(shrunk, format="png", optimize=True)
    return shrunk.getvalue()
