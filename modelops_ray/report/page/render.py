"""A page as HTML, in one file without a reference to another; owns escaping.

Pure but for the assets, which are files of this package. The same page gives the same bytes.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from importlib.resources import files
from typing import Any

from modelops_ray.report.page.figures import Fact, Figure, Page, Plot, Section, Table
from modelops_ray.report.text import printable

_PLACE = re.compile(r"<!--([a-z_]+)-->")
_FIRST_COMMENT = re.compile(r"\A\s*/\*.*?\*/", re.DOTALL)
MOST_TEXT_CHARS = 600
MOST_SENTENCES_CHARS = 4000
MOST_SHORT_CHARS = 20
MOST_BESIDE_CHARS = 40
"""A cell that is longer leaves others no room beside it on a phone."""


@cache
def _asset(name: str) -> str:
    return files("modelops_ray.report.page").joinpath("assets", name).read_text("utf-8")


def render(page: Page) -> str:
    """Write a page as an HTML document."""
    plots: list[Plot] = []
    body = "".join(_section(section, plots) for section in page.sections)
    # What its licence asks for stands in the page; the comment of the file itself names an address.
    uplot = _FIRST_COMMENT.sub("", _asset("uPlot.iife.min.js"), count=1)
    parts = {
        "title": _text(page.title),
        "subtitle": _text(page.subtitle),
        "facts": "".join(map(_fact, page.facts)),
        "contents": "".join(f'<a href="#{each.id}">{_text(each.title)}</a>' for each in page.sections if each.title),
        "body": body,
        "css": _asset("uPlot.min.css") + _asset("page.css"),
        "licence": _asset("uPlot-LICENSE.txt"),
        "uplot": uplot,
        "script": _asset("page.js"),
        "data": _json(plots),
    }
    return _PLACE.sub(lambda found: parts[found[1]], _asset("page.html"))


def _text(text: str, most_chars: int = MOST_TEXT_CHARS) -> str:
    """Write text of others for the inside of an element or an attribute."""
    return html.escape(printable(text, most_chars))


def _json(value: object) -> str:
    """Write values for a script element, which only `</` or `<!--` could end or confuse."""
    written = json.dumps(value, default=_plain, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return written.replace("<", "\\u003c")


def _plain(value: Any) -> dict[str, object]:
    return {"kind": type(value).__name__} | {each.name: getattr(value, each.name) for each in fields(value)}


def _fact(fact: Fact) -> str:
    bad = ' class="bad"' if fact.is_bad else ""
    note = f"<small>{_text(fact.note)}</small>" if fact.note else ""
    return f"<div{bad}><dt>{_text(fact.name)}</dt><dd>{_text(fact.value)}{note}</dd></div>"


def _section(section: Section, plots: list[Plot]) -> str:
    inside = [f'<section id="{section.id}">', f"<h2>{_text(section.title)}</h2>" if section.title else ""]
    if section.sentences:
        inside.append(f"<p>{_text(' '.join(section.sentences), MOST_SENTENCES_CHARS)}</p>")
    inside += ['<div class="tables">', *map(_table, section.tables), "</div>"]
    if section.figures:
        columns = min(section.columns or _columns(len(section.figures)), len(section.figures))
        inside += [f'<div class="figures" style="--columns:{columns}">', *_figures(section.figures, plots), "</div>"]
    return "".join([*inside, "</section>"])


def _columns(n_figures: int) -> int:
    """How many columns leave the fewest places empty."""
    return n_figures if n_figures < 3 else min((4, 3), key=lambda columns: -n_figures % columns)


def _figures(figures: tuple[Figure, ...], plots: list[Plot]) -> Iterator[str]:
    for figure in figures:
        note = f"<small>{_text(figure.note)}</small>" if figure.note else ""
        size = ' class="small"' if figure.is_small else ""
        caption = f"<figcaption>{_text(figure.title)}{note}</figcaption>"
        yield f'<figure{size} data-plot="{len(plots)}">{caption}</figure>'
        plots.append(figure.plot)


def _mark(cell: str, *, is_number: bool) -> str:
    """Align numbers to the right, and keep what is short in one line."""
    if is_number:
        return ' class="n"'
    return ' class="s"' if len(cell) <= MOST_SHORT_CHARS else ""


def _table(table: Table) -> str:
    head = "".join(
        f"<th{_mark(name, is_number=at in table.numbers)}>{_text(name)}</th>" for at, name in enumerate(table.head)
    )
    rows = "".join(f"<tr>{''.join(_cells(table, cells))}</tr>" for cells in table.rows)
    is_wide = any(len(cell) > MOST_BESIDE_CHARS for cells in table.rows for cell in cells[:-1])
    kind = "table stacked" if is_wide else "table"
    inside = f'<div class="{kind}"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>'
    return f"<details><summary>{_text(table.lid)}</summary>{inside}</details>" if table.lid else inside


def _cells(table: Table, cells: tuple[str, ...]) -> Iterator[str]:
    """Write a row; where a phone shows its cells below each other, each has the head of its column before it."""
    for at, (name, cell) in enumerate(zip(table.head, cells, strict=True)):
        yield f'<td{_mark(cell, is_number=at in table.numbers)} data-head="{_text(name)}">{_text(cell)}</td>'


def framed(document: str, said: str, height_px: int) -> str:
    """Put a document into a frame of a notebook, which neither sees the other; `said` is shown where frames are not."""
    frame = f'<iframe sandbox="allow-scripts" style="border:0;width:100%;height:{height_px}px" title="{_text(said)}"'
    return f'<div>{_text(said)}</div>{frame} srcdoc="{html.escape(document)}"></iframe>'
