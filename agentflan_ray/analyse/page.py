"""The pieces of an HTML page: text is escaped unless it is :class:`Html`, and nothing is loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --soft: #f5f7f9; --ink: #1b1f24; --muted: #58626e; --line: #d8dee4;
  --blue: #0072b2; --orange: #de8f05; --green: #009e73; --pink: #c46aa0; --sky: #56b4e9; --red: #c84e00;
  --fifth-1: #c3ced9; --fifth-2: #93b4d2; --fifth-3: #5a95c9; --fifth-4: #2570b3; --fifth-5: #083d6e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181c; --soft: #1d2227; --ink: #e7eaee; --muted: #a2acb8; --line: #363d46;
    --blue: #4a9fe0; --orange: #f0b030; --green: #2fc497; --pink: #e29bc8; --sky: #9ad4f5; --red: #ff8248;
    --fifth-1: #3a4653; --fifth-2: #46678a; --fifth-3: #4c8cc8; --fifth-4: #7fbcf0; --fifth-5: #d9efff;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body {
  margin: 0 auto; max-width: 1168px; padding: 2rem 1.5rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "Liberation Sans", Arial, sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.9rem; line-height: 1.2; margin: .2rem 0 .8rem; letter-spacing: -.01em; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 3rem 0 .6rem; padding-top: 1rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.8rem 0 .5rem; }
p, ul { max-width: 74ch; margin: .5rem 0; }
a { color: var(--blue); }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; font-size: .86em; }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 6px; padding: .7rem .9rem; margin: .5rem 0;
  white-space: pre-wrap; overflow-wrap: anywhere; }
nav { font-size: .9rem; display: flex; flex-wrap: wrap; gap: .2rem 1rem; margin: 1rem 0; }
nav a { text-decoration: none; }
.eyebrow, .note, figcaption { color: var(--muted); font-size: .9rem; }
.note { max-width: 74ch; }
.verdict { font-size: 1.15rem; line-height: 1.5; max-width: 68ch; border-left: 5px solid var(--muted);
  padding: .1rem 0 .1rem 1rem; margin: 1rem 0; }
.verdict.better { border-color: var(--green); }
.verdict.worse { border-color: var(--red); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); gap: .8rem; margin: 1.4rem 0; }
.card { background: var(--soft); border-radius: 8px; padding: .8rem 1rem; }
.card b { display: block; font-size: 1.7rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.card span { display: block; color: var(--muted); font-size: .85rem; font-variant-numeric: tabular-nums; }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 1rem 2rem; align-items: start; }
.pair h3:first-child { margin-top: .6rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: .8rem 1.2rem; }
figure { margin: .6rem 0; min-width: 0; }
svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit !important; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; font-size: .87rem; margin: .6rem 0; }
.legend i { font-style: normal; margin-right: .4em; }
.scroll { overflow-x: auto; margin: .7rem 0; }
table { border-collapse: collapse; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .38rem .9rem .38rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--muted); font-weight: 600; vertical-align: bottom; overflow-wrap: normal; }
td.number, th.number { text-align: right; }
td:first-child { white-space: nowrap; }
th:last-child, td:last-child { padding-right: 0; }
td code { white-space: pre-wrap; overflow-wrap: anywhere; }
small { color: var(--muted); font-size: .85em; }
.tag { display: inline-block; border: 1px solid currentColor; border-radius: 99px; padding: 0 .55em; font-size: .78rem;
  line-height: 1.5; white-space: nowrap; color: var(--muted); }
.tag.complete, .tag.best { color: var(--green); }
.tag.failed { color: var(--red); }
.tag.named { color: var(--orange); color: color-mix(in srgb, var(--orange) 75%, var(--ink)); }
.mix { display: flex; gap: 1px; height: 1rem; width: 6.5rem; margin-top: .2rem; }
.mix i { display: block; height: 100%; }
.example { border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem; margin: .7rem 0; }
.example pre { max-height: 16rem; overflow: auto; }
.example .query { white-space: pre-wrap; max-height: 12rem; overflow: auto; margin-bottom: .6rem; max-width: none; }
.replies { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: .4rem 1.2rem; }
.replies > div { min-width: 0; }
summary { cursor: pointer; color: var(--blue); }
@media (max-width: 820px) {
  .pair { grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 520px) {
  body { padding: 1.2rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  .verdict { font-size: 1.05rem; }
  .cards { grid-template-columns: 1fr 1fr; gap: .6rem; }
  .card { padding: .6rem .8rem; }
  .card b { font-size: 1.4rem; }
}
@media print { nav { display: none; } .scroll, .example pre { overflow: visible; max-height: none; } }
"""


class Html(str):
    """Text that is markup already; everything else is escaped by :func:`text`."""

    __slots__ = ()


def text(value: object) -> Html:
    """A value as markup: escaped, unless it is :class:`Html`."""
    return value if isinstance(value, Html) else Html(html.escape(str(value)))


def element(tag: str, *children: object, **attributes: str) -> Html:
    """``<tag attributes>children</tag>``; ``class_`` stands for ``class``, ``aria_label`` for ``aria-label``."""
    names = {name: name.rstrip("_").replace("_", "-") for name in attributes}
    given = "".join(f' {names[name]}="{html.escape(value)}"' for name, value in attributes.items())
    return Html(f"<{tag}{given}>{join(children)}</{tag}>")


def join(children: Iterable[object]) -> Html:
    """Values one after the other."""
    return Html("".join(text(child) for child in children))


def table(headers: Sequence[object], rows: Iterable[Sequence[object]], numbers: Iterable[int] = ()) -> Html:
    """A table that scrolls sideways on a narrow screen; the columns in ``numbers`` are right-aligned."""
    classes = {column: {"class_": "number"} for column in numbers}
    top = element("tr", *(element("th", cell, **classes.get(i, {})) for i, cell in enumerate(headers)))
    head = element("thead", top) if headers else Html("")
    body = [element("tr", *(element("td", cell, **classes.get(i, {})) for i, cell in enumerate(row))) for row in rows]
    return element("div", element("table", head, element("tbody", *body)), class_="scroll", tabindex="0")


def legend(entries: Iterable[tuple[str, str, str]]) -> Html:
    """Entries of (sign, CSS colour variable, meaning)."""
    spans = [
        element("span", element("i", sign, style=f"color: var(--{hue})"), meaning) for sign, hue, meaning in entries
    ]
    return element("div", *spans, class_="legend")


def figure(svg: str, label: str, caption: object = "") -> Html:
    """A drawing with a description for those who cannot see it, and a caption."""
    note = element("figcaption", caption) if caption else Html("")
    return element("figure", element("div", Html(svg), role="img", aria_label=label), note)


def document(title: str, body: Iterable[object]) -> str:
    """The whole page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{join(body)}\n</body>\n</html>\n"
    )
