"""The report as Markdown: what one pastes into an issue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from agentflan_ray.analyse import findings, proof, sections_run
from agentflan_ray.analyse.analysis import Analysis
from agentflan_ray.analyse.cells import count, number, score_cell
from agentflan_ray.analyse.findings import Finding
from agentflan_ray.analyse.frame import Goal, Run
from agentflan_ray.analyse.headline import headline

MAX_TRIALS = 50


def markdown(run: Run, analysis: Analysis) -> str:
    """Headline, tables and sentences of the page, without its pictures, replies and corpus."""
    title = "Mixture search" if not findings.is_generic(run) else "Search"
    lines = [f"# {title}: {_plain(run.name)}", "", _plain(headline(run).sentence), ""]
    lines += [f"- {_plain(sentence)}" for sentence in sections_run.done_sentences(run)]
    if run.evaluations:
        lines += ["", "## Base against best", "", *_table(*sections_run.metric_rows(run))]
        headers, cases = sections_run.case_rows(run)
        if cases:
            lines += ["", *_table(headers, cases)]
    lines += ["", "## Trials", "", *_trials(run)]
    if run.best:
        best = run.best
        shares = [
            [name, f"{share:.1%}", f"{best['realised'].get(name, 0.0):.1%}"] for name, share in best["weights"].items()
        ]
        lines += ["", f"## The best mixture: trial {_plain(best['trial'])}", ""]
        lines += [*_table(["Component", "Asked", "Realised"], shares), ""]
        lines += [_plain(sentence) for sentence in sections_run.choice_sentences(run, best)]
    if run.proof:
        lines += ["", "## Is it the best?"]
        for finding in (proof.mixes(run.proof), proof.comparisons(run.proof)):
            lines += ["", *(_plain(sentence) for sentence in finding.sentences), ""]
            lines += _table(finding.headers, finding.rows)
    for heading, finding in _findings(run, analysis):
        lines += ["", f"## {heading}", "", *(_plain(sentence) for sentence in finding.sentences)]
        if finding.rows:
            lines += ["", *_table(finding.headers, finding.rows)]
    if "command" in run.sweep:
        lines += ["", "## Reproduce", "", *(f"    {line}" for line in str(run.sweep["command"]).splitlines())]
    return "\n".join([*lines, ""])


def _findings(run: Run, analysis: Analysis) -> list[tuple[str, Finding]]:
    found = [("What mattered", findings.importances(analysis))]
    if isinstance(analysis.fronts, list):
        found += [
            (
                f"{findings.label(front.goals[0])} against {findings.label(front.goals[1]).lower()}",
                findings.front(front, run),
            )
            for front in analysis.fronts
        ]
    goals = {goal.metric: goal for goal in run.goals}
    found += [
        (f"{findings.label(goals[metric])} by share and parameter", findings.answers(response))
        for metric, response in analysis.responses.items()
    ]
    if not findings.is_generic(run):
        found.append(("Predicted best mix", findings.prediction(analysis.prediction)))
    if isinstance(analysis.laws, str):
        found.append(("Scaling", findings.nothing(analysis.laws)))
    else:
        found += [(f"Scaling of {law.outcome}", findings.law(law)) for law in analysis.laws]
    found.append(("Cheap trials against dear ones", findings.agreements(analysis.agreements)))
    if not findings.is_generic(run):
        found.append(("How fast each is learnt", findings.speeds(analysis.speeds)))
    return [*found, ("Cost", findings.costs(analysis.cost))]


def _trials(run: Run) -> list[str]:
    goals = list(run.goals) or [Goal("score", "max")]
    ranked = sections_run.ranked(run)
    rows = [
        [
            row["trial"],
            row["kind"] if isinstance(row["kind"], str) else "–",
            row["state"],
            *(score_cell(row, goal) for goal in goals),
            count(row.get("supervised_tokens")),
            number(row.get("seconds.total"), "{:.0f}"),
            row["error"] if isinstance(row["error"], str) else "",
        ]
        for _, row in ranked.head(MAX_TRIALS).iterrows()
    ]
    headers = ["Trial", "Kind", "State", *map(findings.label, goals), "Supervised tokens", "Seconds", "Error"]
    lines = _table(headers, rows)
    if len(ranked) > MAX_TRIALS:
        lines += ["", f"The first {MAX_TRIALS} of {len(ranked)}; all are in trials.csv."]
    return lines


def _table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [list(headers), ["---"] * len(headers), *rows]
    return [f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines]


def _plain(value: object) -> str:
    """Text that Markdown neither runs nor breaks a table on."""
    flat = " ".join(str(value).split())
    for mark in ("\\", "|", "<", "`", "*", "[", "]"):
        flat = flat.replace(mark, f"\\{mark}")
    return flat
