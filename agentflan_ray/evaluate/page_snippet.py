"""A web page cut down to what stands round some of its elements, as text for a model.

After MindAct (Deng et al., arXiv 2306.06070, section 3.2): of each candidate its ancestors, its nearest siblings and
what is in it; elements that say nothing are left out, candidates are numbered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser

NODE_ID = "backend_node_id"
_KEPT_ATTRIBUTES = (
    "alt", "aria_description", "aria_label", "aria-description", "aria-label", "input_checked", "input_value", "label",
    "name", "option_selected", "placeholder", "role", "text_value", "title", "type", "value",
)  # fmt: skip
_VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr"}
_SILENT = {"script", "style", "noscript", "template"}
_ANCESTORS, _SIBLINGS, _INSIDE = 5, 3, 50
_WORDS_OF_A_TEXT = 20
_VALUE_CHARACTERS = 40


@dataclass(eq=False)
class Element:
    """An element of a page, or a piece of its text (``tag`` is then empty)."""

    tag: str
    parent: Element | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    text: str = ""
    children: list[Element] = field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        """The element and all in it, in the order of the page."""
        stack = [self]
        while stack:
            element = stack.pop()
            yield element
            stack.extend(reversed(element.children))


class _Builder(HTMLParser):
    """Builds the tree; ends that nothing began are passed over, open elements end with the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("")
        self._at = self.root

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, self._at, {name: value or "" for name, value in attrs})
        self._at.children.append(element)
        if tag not in _VOID:
            self._at = element

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._at.children.append(Element(tag, self._at, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        element: Element | None = self._at
        while element is not None and element.tag != tag:
            element = element.parent
        if element is not None and element.parent is not None:
            self._at = element.parent

    def handle_data(self, data: str) -> None:
        if text := " ".join(data.split()):
            self._at.children.append(Element("", self._at, text=text))


def parse_page(html: str) -> Element:
    """The tree of a page. Anything that is fed to it gives a tree."""
    builder = _Builder()
    builder.feed(html)
    builder.close()
    return builder.root


def elements_by_id(root: Element) -> dict[str, Element]:
    """The elements by the page's own ids (``backend_node_id``)."""
    return {element.attributes[NODE_ID]: element for element in root.walk() if NODE_ID in element.attributes}


def snippet(root: Element, candidates: Sequence[Element]) -> tuple[str, list[str]]:
    """The page round the candidates, and each candidate alone, as text; candidates carry ``id=0``, ``id=1``, …"""
    kept: set[Element] = set()
    for candidate in candidates:
        kept |= _surroundings(candidate)
    numbers = {candidate: number for number, candidate in enumerate(candidates)}
    page = " ".join(text for child in root.children if (text := _write(child, kept, numbers)))
    alone = [_write(candidate, set(_inside(candidate)) | {candidate}, numbers) for candidate in candidates]
    return page, alone


def _surroundings(element: Element) -> set[Element]:
    kept = {element, *_inside(element)}
    parent = element.parent
    if parent is not None:
        place = parent.children.index(element)
        near = parent.children[max(0, place - _SIBLINGS) : place + _SIBLINGS + 1]
        kept.update(near)
        kept.update(text for sibling in near for text in sibling.children if not text.tag)
    for _ in range(_ANCESTORS):
        if parent is None or parent.parent is None:
            break
        kept.add(parent)
        parent = parent.parent
    return kept


def _inside(element: Element) -> list[Element]:
    walk = element.walk()
    next(walk)
    return [inner for inner, _ in zip(walk, range(_INSIDE), strict=False)]


def _write(element: Element, kept: set[Element], numbers: dict[Element, int]) -> str:
    """Depth first without recursion: pages are nested as deep as they like."""
    pieces: list[str] = []
    stack: list[tuple[Element, int | None]] = [(element, None)]
    while stack:
        current, began = stack.pop()
        if began is not None:
            # Elements that say nothing and are no candidate are left out again.
            if len(pieces) == began + 1 and current not in numbers and not _attributes(current):
                del pieces[began:]
            else:
                pieces.append(f"</{current.tag}>")
            continue
        if current.tag in _SILENT:
            continue
        if not current.tag:
            if current in kept:
                pieces.append(" ".join(current.text.split()[:_WORDS_OF_A_TEXT]))
            continue
        if current in kept:
            number = f" id={numbers[current]}" if current in numbers else ""
            stack.append((current, len(pieces)))
            pieces.append(f"<{current.tag}{number}{_attributes(current)}>")
        stack.extend((child, None) for child in reversed(current.children))
    return " ".join(pieces)


def _attributes(element: Element) -> str:
    values = (element.attributes.get(name, "").strip() for name in _KEPT_ATTRIBUTES)
    shown = dict.fromkeys(" ".join(value.split())[:_VALUE_CHARACTERS] for value in values if value)
    return "".join(f" {value}" for value in shown)
