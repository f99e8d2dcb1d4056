"""What the page's templates show: tables and pictures as values. Every text is escaped by jinja2, and nowhere else."""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.figures.drawing import Drawing, rendered

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        shown: displayed value.
        sort: sort key; None: the displayed value; NaN: sorted last.
        kind: CSS class.
    """

    shown: object
    sort: float | None = None
    kind: str = ""

    @property
    def sort_key(self) -> str | None:
        """The attribute `data-sort`; empty for NaN, None where there is none."""
        return None if self.sort is None else "" if math.isnan(self.sort) else repr(float(self.sort))


def number(value: float | None, shown: str = "", kind: str = "") -> Cell:
    """A numeric cell; a dash for an unknown value."""
    known = value is not None and not math.isnan(value)
    return Cell((shown or f"{value:g}") if known else "–", value if known else math.nan, f"number {kind}".strip())


@dataclass(frozen=True)
class Table:
    """A table that scrolls by itself where the page is narrow; the first cell of a row names it.

    Attributes:
        name: of the region, for links and screen readers.
        caption: above it.
        heads: column headings.
        rows: cells.
        sortable: whether the script makes buttons of its column headers.
    """

    name: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False

    @property
    def kinds(self) -> list[str]:
        """The style of each column: that of its first cell."""
        return [self.rows[0][i].kind.split(" ")[0] if self.rows else "" for i in range(len(self.heads))]


@dataclass(frozen=True)
class Picture:
    """A figure with its title, its picture inside the page, and its caption.

    Attributes:
        drawing: title, caption, alternative text.
    """

    drawing: Drawing

    @property
    def data(self) -> str:
        """The picture as SVG in base 64."""
        return base64.b64encode(rendered(self.drawing, "svg", titled=False)).decode()

    @property
    def width(self) -> str:
        """Of the picture, in the page's unit of type."""
        return f"{7 * self.drawing.size[0]:.1f}rem"


def page(content: Mapping[str, Any]) -> str:
    """The whole page: no address in it leads anywhere, and its policy forbids to load any.

    Args:
        content: what `page.html` names.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return templates.get_template("page.html").render(content)
