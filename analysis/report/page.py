"""Pieces of a web page that needs no network: every text that comes in is escaped here, and only here."""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from analysis.figures.drawing import Drawing, rendered
from analysis.report.page_assets import SCRIPT, STYLE


class Html(str):
    """Text that is markup already."""

    __slots__ = ()


def text(value: object) -> str:
    """A value as markup: escaped, unless it is markup already."""
    return str(value) if isinstance(value, Html) else escape(str(value))


def paragraph(value: object, kind: str = "") -> Html:
    """A paragraph."""
    return Html(f"<p{_kind(kind)}>{text(value)}</p>")


def _kind(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def bullets(values: Iterable[object]) -> Html:
    """A list; nothing for no values."""
    items = "".join(f"<li>{text(value)}</li>" for value in values)
    return Html(f"<ul>{items}</ul>" if items else "")


def section(name: str, title: str, *content: object) -> Html:
    """A part of the page that can be linked to."""
    return Html(f'<section id="{escape(name)}"><h2>{text(title)}</h2>{"".join(map(text, content))}</section>')


def folded(summary: str, *content: object, is_open: bool = False) -> Html:
    """What is shown when one asks for it; in print always."""
    return Html(
        f"<details{' open' * is_open}><summary>{text(summary)}</summary>{''.join(map(text, content))}</details>"
    )


def facts(values: Iterable[tuple[str, object, str]]) -> Html:
    """Names, what they are, and details."""
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}{f'<small>{text(more)}</small>' if more else ''}</dd></div>"
        for name, value, more in values
    )
    return Html(f'<dl class="facts">{items}</dl>')


def code(content: str) -> Html:
    """Text to copy."""
    return Html(f'<pre tabindex="0"><code>{escape(content)}</code></pre>')


def picture(drawing: Drawing) -> Html:
    """A figure with its title, its picture inside the page, and its caption."""
    data = base64.b64encode(rendered(drawing, "svg", titled=False)).decode()
    name = escape(drawing.name)
    return Html(
        f'<figure id="figure-{name}"><h3>{text(drawing.title)}</h3>'
        f'<div class="scroll" role="region" tabindex="0" aria-label="figure {name}">'
        f'<img style="width:{7 * drawing.size[0]:.1f}rem" alt="{escape(drawing.alt)}" src="data:image/svg+xml;base64,{data}"></div>'
        f"<figcaption>{text(drawing.caption)}</figcaption></figure>"
    )


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        shown: for people.
        sort: by what its column is sorted; None: by what is shown; NaN: behind all others.
        kind: of its style.
    """

    shown: object
    sort: float | None = None
    kind: str = ""


def number(value: float | None, shown: str = "", kind: str = "") -> Cell:
    """A cell that holds a number; a dash where it is not known."""
    known = value is not None and not math.isnan(value)
    return Cell((shown or f"{value:g}") if known else "–", value if known else math.nan, f"number {kind}".strip())


def table(
    name: str, caption: str, heads: Sequence[str], rows: Iterable[Sequence[Cell]], sortable: bool = False
) -> Html:
    """A table that scrolls by itself where the page is narrow; the first cell of a row names it.

    Args:
        name: of the region, for links and screen readers.
        caption: above it.
        heads: of the columns.
        rows: cells.
        sortable: whether the script makes buttons of its heads.
    """
    cells = list(rows)
    kinds = [cells[0][i].kind.split(" ")[0] if cells else "" for i in range(len(heads))]
    top = "".join(f'<th scope="col"{_kind(kind)}>{text(head)}</th>' for head, kind in zip(heads, kinds, strict=True))
    body = "".join(f"<tr>{''.join(_cell(cell, i == 0) for i, cell in enumerate(row))}</tr>" for row in cells)
    return Html(
        f'<p class="note" id="{escape(name)}-note">{text(caption)}</p>'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{escape(name)}-note">'
        f'<table id="{escape(name)}"{_kind("sortable" * sortable)} aria-describedby="{escape(name)}-note">'
        f"<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(cell: Cell, is_name: bool) -> str:
    tag, scope = ("th", ' scope="row"') if is_name else ("td", "")
    sort = "" if cell.sort is None else f' data-sort="{"" if math.isnan(cell.sort) else repr(float(cell.sort))}"'
    return f"<{tag}{scope}{_kind(cell.kind)}{sort}>{text(cell.shown)}</{tag}>"


def page(title: str, *content: object) -> str:
    """A whole page: no address in it leads anywhere, and its policy forbids to load any."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n{chr(10).join(map(text, content))}\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )
