"""Shared by all figures: a Drawing has a title that states its finding, a caption, an alt text and a paint function."""

import io
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from analysis.wording import minus

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 7.4
"""Inches. With 11 pt text a figure is readable at half this width."""

INK, GREY, FAINT = "#1a1a1a", "#5f5f5f", "#d9d9d9"
BLUE, ORANGE, GREEN, VERMILLION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, VERMILLION, PURPLE, SKY, INK)
"""The colour-blind safe palette of Okabe and Ito; markers and dashes distinguish series in greyscale."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: Sequence[Any] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1)),
    (0, (5, 1, 1, 1)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (2, 2)),
)

STYLE: Mapping[str, Any] = MappingProxyType(
    {
        "font.family": "DejaVu Sans", "font.size": 11, "axes.titlesize": 11, "axes.titlelocation": "left",
        "axes.labelsize": 11, "axes.labelcolor": INK, "axes.edgecolor": "#8c8c8c", "axes.linewidth": 0.8,
        "axes.spines.top": False, "axes.spines.right": False, "text.color": INK, "xtick.color": INK, "ytick.color": INK,
        "xtick.labelsize": 10.5, "ytick.labelsize": 10.5, "legend.fontsize": 10.5, "legend.frameon": False,
        "axes.axisbelow": True, "grid.color": "#e6e6e6", "grid.linewidth": 0.8, "lines.linewidth": 1.8,
        "hatch.linewidth": 0.7, "svg.hashsalt": "panda-tune", "svg.fonttype": "path", "text.parse_math": False, "figure.facecolor": "white",
    }
)  # fmt: skip
TITLE_POINTS, CAPTION_POINTS, LEADING = 13.0, 9.0, 1.35


@dataclass(frozen=True)
class Drawing:
    """A figure before it is rendered.

    Attributes:
        name: of its files.
        title: its finding, a sentence built from its numbers.
        caption: how to read it, sample sizes and protocol.
        alt: alternative text for screen readers.
        size: width and height in inches, without title and caption.
        paint: draws the axes into an empty (sub)figure.
    """

    name: str
    title: str
    caption: str
    alt: str
    size: tuple[float, float]
    paint: Callable[[Any], None]


@dataclass(frozen=True)
class NotDrawn:
    """A figure that cannot be drawn.

    Attributes:
        name: of the files it would have.
        reason: why, in words.
    """

    name: str
    reason: str


def rendered(drawing: Drawing, form: str, titled: bool) -> bytes:
    """A drawing as a file's content; the same numbers give the same bytes.

    Args:
        drawing: what to draw.
        form: `png` or `svg`.
        titled: with title and caption in the picture, as a file needs that stands alone.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = dict(STYLE)
    with mpl.rc_context(style):
        width, height = drawing.size
        title = _lines(drawing.title, width, TITLE_POINTS) if titled else []
        caption = _lines(drawing.caption, width, CAPTION_POINTS) if titled else []
        above, below = _inches(title, TITLE_POINTS), _inches(caption, CAPTION_POINTS)
        whole = above + height + below
        figure: Any = Figure(figsize=(width, whole))
        figure.set_layout_engine("constrained", w_pad=0.09, h_pad=0.06)
        middle = figure.subfigures(3, 1, height_ratios=[above or 1e-6, height, below or 1e-6])[1]
        drawing.paint(middle)
        if titled:
            figure.text(
                0.012,
                1 - 0.08 / whole,
                "\n".join(title),
                fontsize=TITLE_POINTS,
                fontweight="bold",
                va="top",
                linespacing=LEADING,
            )
            figure.text(
                0.012,
                0.08 / whole,
                "\n".join(caption),
                fontsize=CAPTION_POINTS,
                color=GREY,
                va="bottom",
                linespacing=LEADING,
            )
        return _written(figure, form)


def _lines(text: str, width: float, points: float) -> list[str]:
    return textwrap.wrap(text, int(width * 72 / (points * (0.64 if points > 12 else 0.56))), break_on_hyphens=False)


def _inches(lines: Sequence[str], points: float) -> float:
    return len(lines) * points * LEADING / 72 + 0.2 if lines else 0.0


def _written(figure: "Figure", form: str) -> bytes:
    content = io.BytesIO()
    stamp = {"Date": None, "Creator": None} if form == "svg" else {"Software": None}
    figure.savefig(content, format=form, dpi=160, metadata=stamp)
    return _renamed(content.getvalue()) if form == "svg" else content.getvalue()


def _renamed(svg: bytes) -> bytes:
    """Renames clip paths by order: matplotlib hashes their layout, whose last bits differ from call to call."""
    names = list(dict.fromkeys(re.findall(rb'<clipPath id="(p[0-9a-f]{10})"', svg)))
    for place, name in enumerate(names):
        svg = svg.replace(name, b"clip%d" % place)
    return svg


def save(drawing: Drawing, folder: Path) -> list[Path]:
    """Writes a drawing as PNG and SVG; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{drawing.name}.{form}" for form in ("png", "svg")]
    for path in paths:
        path.write_bytes(rendered(drawing, path.suffix[1:], titled=True))
    return paths


def colour(place: int) -> str:
    """The colour of the place-th series."""
    return COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """The marker of the place-th series."""
    return MARKERS[place % len(MARKERS)]


def dashes(place: int) -> Any:
    """The line style of the place-th series."""
    return DASHES[place % len(DASHES)]


def minus_ticks(axis: Any) -> None:
    """Plain numbers at an axis, without needless digits; on a log scale at powers of ten alone."""
    axis.set_major_formatter(lambda value, _: minus(f"{value:g}"))
    axis.set_minor_formatter(lambda *_: "")


def zero_line(axes: "Axes", vertical: bool = False, at: float = 0.0) -> None:
    """A line where there is no difference."""
    (axes.axvline if vertical else axes.axhline)(at, color="#8c8c8c", linewidth=1.0, zorder=1)
