"""One self-contained report of a search: what was done, what came out, and how far it can be trusted."""

from __future__ import annotations

from pathlib import Path

from agentflan_ray.analyse import findings, places, sections_evaluation, sections_run, sections_search, summary, tables
from agentflan_ray.analyse.analysis import Analysis, analyse
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.headline import Headline, headline
from agentflan_ray.analyse.page import Html, document, element

__all__ = ["FILES", "Headline", "headline", "write", "write_to"]

FILES: tuple[str, ...] = ("report.html", "report.md", *tables.FILES)
"""What a report consists of."""


def write(run: Path, price: float | None = None) -> Path:
    """Write :data:`FILES` into a run folder; returns the path of ``report.html``.

    Raises:
        ValueError: see :func:`agentflan_ray.analyse.frame.load`.
    """
    return write_to(places.load_run(run), run, price)


def write_to(run: Run, folder: Path, price: float | None = None) -> Path:
    """Write :data:`FILES` of what was read from any place; returns the path of ``report.html``.

    The page needs no network and no script. Every text from a model, a user or a file is escaped. ``price`` is that of
    one device hour.
    """
    analysis = analyse(run, price)
    folder.mkdir(parents=True, exist_ok=True)
    tables.write(run, analysis, folder)
    (folder / "report.md").write_text(summary.markdown(run, analysis), encoding="utf-8")
    path = folder / "report.html"
    path.write_text(_page(run, analysis), encoding="utf-8")
    return path


def _page(run: Run, analysis: Analysis) -> str:
    sections = _sections(run, analysis)
    top = headline(run)
    title = f"{'Search' if findings.is_generic(run) else 'Mixture search'}: {run.name}"
    links = [element("a", heading, href=f"#{anchor}") for anchor, heading, _ in sections]
    source = run.sweep.get("created", "date not recorded") if run.origin == "run folder" else f"from {run.origin}"
    body = [
        element("div", f"agentflan-ray · {source}", class_="eyebrow"),
        element("h1", title),
        element("p", top.sentence, class_=f"verdict {top.verdict}"),
        sections_run.cards(run),
        element("nav", *links),
    ]
    for anchor, heading, content in sections:
        body.append(element("section", element("h2", heading, id=anchor), *content))
    return document(title, body)


def _sections(run: Run, analysis: Analysis) -> list[tuple[str, str, list[Html]]]:
    """Anchor, heading and content. What a place cannot hold is left out; what it could and does not, says why."""
    is_run, has_mixes = run.origin == "run folder", not findings.is_generic(run)
    benchmarks = sections_evaluation.of_run(run.folder) if is_run else []
    chosen: list[tuple[bool, str, str, list[Html]]] = [
        (True, "done", "What was done", sections_run.done(run)),
        (is_run, "compare", "Base against best", sections_run.comparison(run) if is_run else []),
        (bool(benchmarks), "benchmarks", "Benchmarks", benchmarks),
        (True, "trials", "Trials", sections_run.trials(run)),
        (is_run, "mixture", "The best mixture", sections_run.mixture(run) if is_run else []),
        (run.proof is not None, "proof", "Is it the best?", sections_search.proof(run)),
        (
            not isinstance(analysis.fronts, str),
            "front",
            _front_heading(analysis),
            sections_search.fronts(run, analysis),
        ),
        (True, "parameters", "What mattered", sections_search.parameters(run, analysis)),
        (has_mixes, "mixes", "The mixes that were tried", sections_search.mixes(run)),
        (True, "response", "Score by share", sections_search.responses(run, analysis)),
        (has_mixes, "prediction", "Predicted best mix", sections_search.prediction(analysis)),
        (True, "scaling", "More data, larger models", sections_search.scaling(analysis)),
        (
            has_mixes,
            "losses",
            "Loss by component",
            [*sections_run.losses(run), *sections_search.speeds(analysis)],
        ),
        (True, "time", "Where the time went", sections_search.costs(run, analysis)),
        (is_run, "replies", "Replies, base and best", sections_run.replies(run)),
        (is_run, "corpus", "Corpus", sections_run.corpus(run)),
        (is_run, "reproduce", "Reproduce", sections_run.reproduce(run) if is_run else []),
    ]
    return [(anchor, heading, content) for is_there, anchor, heading, content in chosen if is_there]


def _front_heading(analysis: Analysis) -> str:
    if isinstance(analysis.fronts, str):
        return ""
    first, second = analysis.fronts[0].goals
    return f"{findings.label(first)} against {findings.label(second).lower()}"
