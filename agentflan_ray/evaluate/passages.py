"""Where HotpotQA's agent searches: a closed pool of paragraphs under BM25, or live Wikipedia."""

from __future__ import annotations

import html
import json
import re
import unicodedata
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentflan_ray.evaluate.benchmark import EnvironmentDied

WIKIPEDIA = "https://en.wikipedia.org/w/api.php"

_AGENT = "agentflan-ray (https://www.mediawiki.org/wiki/API:Etiquette)"
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“(\[]?[A-Z0-9])")
_MAX_BYTES = 8_000_000


@dataclass(frozen=True, slots=True)
class Page:
    """An article or a paragraph of one, as sentences without outer blanks."""

    title: str
    sentences: tuple[str, ...]


class Library(Protocol):
    """What can be searched. Threads may call it at once."""

    def page(self, title: str) -> Page | None:
        """The page of this title, or None."""

    def similar(self, query: str, count: int) -> list[str]:
        """Titles that a page search gives for the query, best first."""


class ClosedPool:
    """Paragraphs under BM25 (package ``bm25s`` as it comes: Lucene's variant, k1 = 1.5, b = 0.75, English stop words).

    A title that several paragraphs have, capitals aside, stands for all their sentences, in order.
    """

    def __init__(self, paragraphs: Iterable[tuple[str, Sequence[str]]]) -> None:
        import bm25s

        sentences: dict[str, dict[str, None]] = {}
        for title, given in paragraphs:
            own = sentences.setdefault(title, {})
            own.update(dict.fromkeys(text for sentence in given if (text := sentence.strip())))
        self._pages = {_folded(title): Page(title, tuple(own)) for title, own in sentences.items()}
        self._titles = [page.title for page in self._pages.values()]
        self._tokenize = bm25s.tokenize
        texts = [f"{page.title} {' '.join(page.sentences)}" for page in self._pages.values()]
        self._index = bm25s.BM25()
        self._index.index(bm25s.tokenize(texts, stopwords="en", show_progress=False), show_progress=False)

    def __len__(self) -> int:
        return len(self._titles)

    def page(self, title: str) -> Page | None:
        """The page of this title, case and outer blanks aside."""
        return self._pages.get(_folded(title))

    def similar(self, query: str, count: int) -> list[str]:
        """Titles by BM25 score; none where no word of the query is in the pool."""
        tokens = self._tokenize(query[:1000], stopwords="en", return_ids=False, show_progress=False)
        if not tokens[0]:
            return []
        numbers, scores = self._index.retrieve(tokens, k=min(count, len(self)), show_progress=False)
        return [self._titles[number] for number, score in zip(numbers[0], scores[0], strict=True) if score > 0]


@dataclass(frozen=True)
class LiveWikipedia:
    """Wikipedia through MediaWiki's API (modules ``extracts`` and ``search``), as it is today."""

    url: str = WIKIPEDIA
    seconds: float = 30.0

    def page(self, title: str) -> Page | None:
        """The article of this title, redirects followed, as plain text cut into sentences."""
        if not title.strip():
            return None
        answer = self._query(
            {
                "prop": "extracts",
                "explaintext": "1",
                "exsectionformat": "plain",
                "redirects": "1",
                "titles": title[:250],
            }
        )
        for found in answer.get("pages", []):
            if text := found.get("extract", "").strip():
                lines = [line for line in text.split("\n") if line.strip()]
                sentences = [part for line in lines for part in _SENTENCE_END.split(line.strip())]
                return Page(found["title"], tuple(sentences))
        return None

    def similar(self, query: str, count: int) -> list[str]:
        """Titles that Wikipedia's own search gives."""
        if not query.strip():
            return []
        answer = self._query({"list": "search", "srsearch": query[:250], "srlimit": str(count)})
        return [found["title"] for found in answer.get("search", [])]

    def _query(self, asked: Mapping[str, str]) -> dict[str, Any]:
        given = {"action": "query", "format": "json", "formatversion": "2", **asked}
        request = urllib.request.Request(f"{self.url}?{urllib.parse.urlencode(given)}", headers={"User-Agent": _AGENT})
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as answer:
                value = json.loads(answer.read(_MAX_BYTES))
        except (urllib.error.URLError, TimeoutError, OSError, ValueError) as error:
            raise EnvironmentDied(f"Wikipedia at {self.url} did not answer: {error}.") from error
        if not isinstance(value, dict) or "error" in value:
            raise EnvironmentDied(f"Wikipedia at {self.url} refused a query: {str(value)[:200]}.")
        found = value.get("query", {})
        return found if isinstance(found, dict) else {}


def _folded(title: str) -> str:
    # Some of HotpotQA's titles hold "&amp;", which models write as "&".
    return " ".join(unicodedata.normalize("NFKC", html.unescape(title)).casefold().split())
