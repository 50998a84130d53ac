"""The sections of a report on the search itself: front, importances, responses, mixes, prediction, scaling, cost."""

from __future__ import annotations

import pandas as pd

from agentflan_ray.analyse import fidelity, findings, frame, plots, plots_search
from agentflan_ray.analyse import proof as proving
from agentflan_ray.analyse.analysis import Analysis
from agentflan_ray.analyse.cells import note
from agentflan_ray.analyse.findings import Finding
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.page import Html, element, figure, legend, table

AGENT_CAPABILITIES: tuple[str, ...] = ("reasoning", "retrieval", "understanding")
AGENT: tuple[str, ...] = (*AGENT_CAPABILITIES, "instruction")
MAX_PAIRS = 4
MIN_DEAREST = 5
"""Trials at the largest fidelity that are shown alone."""


def fronts(run: Run, analysis: Analysis) -> list[Html]:
    """Two objectives against each other."""
    if isinstance(analysis.fronts, str):
        return [note(analysis.fronts)]
    parts: list[Html] = []
    for place, front in enumerate(analysis.fronts):
        finding = findings.front(front, run)
        first, second = front.goals
        rows = pd.DataFrame({first.column: [value for value, _ in front.values]})
        # The front itself is drawn in full, also where the rest is thinned.
        on_front = [row for row, trial in enumerate(front.trials) if trial in set(front.front)]
        shown = sorted({*plots.drawn(rows, first).index, *on_front})
        entries = [("●", "ink", "on the front"), ("●", "blue", "beaten"), ("✖", "red", "breaks a constraint")]
        svg = plots_search.front(front, shown, f"front-{place}")
        picture = figure(svg, f"{findings.label(first)} against {findings.label(second)}")
        parts += [legend(entries), element("div", picture, _table(finding, [2, 3]), class_="pair"), *_notes(finding)]
    return parts


def proof(run: Run) -> list[Html]:
    """The winner against the named mixes over several seeds."""
    if run.proof is None:
        return [note("The winner was not compared with the named mixes over several seeds; experiments/prove.py does.")]
    mixes, comparisons = proving.mixes(run.proof), proving.comparisons(run.proof)
    drawn = figure(plots_search.differences(run.proof), f"Gain of {run.proof['winner']} over each other mix")
    return [
        *_notes(mixes),
        _table(mixes),
        element("div", drawn, element("div", _table(comparisons), *_notes(comparisons)), class_="pair"),
    ]


def parameters(run: Run, analysis: Analysis) -> list[Html]:
    """Importances, and the first objective against each parameter."""
    finding = findings.importances(analysis)
    parts: list[Html] = []
    computed = [each for each in analysis.importances if each.shares]
    if len(computed) == 1:
        drawn = figure(plots.importances(computed[0].shares), "Parameter importances")
        parts = [element("div", drawn, element("div", *_notes(finding)), class_="pair")]
    elif computed:
        pictures = [
            element(
                "div",
                element("h3", f"{findings.label(each.goal)}, {each.method}"),
                figure(plots.importances(each.shares, f"importances-{place}"), "Parameter importances"),
            )
            for place, each in enumerate(computed)
        ]
        parts = [element("div", *pictures, class_="pair"), *_notes(finding)]
    else:
        parts = _notes(finding)
    if not run.goals:
        return parts
    goal = run.goals[0]
    panels = plots.parameter_scores(run.trials, goal, _best(run))
    if not panels:
        return [*parts, note("No parameter took more than one value among scored trials.")]
    kinds = [kind for kind in frame.KINDS if kind in set(run.trials["kind"].dropna())]
    entries = [(plots.KIND_SIGNS[kind], "orange" if kind in frame.NAMED_MIXES else "blue", kind) for kind in kinds]
    label = findings.label(goal)
    return [
        *parts,
        element("h3", f"{label} against each parameter"),
        legend([*entries, ("○", "muted", "hollow: not complete"), ("◯", "ink", "ringed: the best")]),
        element("div", *(figure(svg, f"{label} against {name}") for name, svg in panels.items()), class_="panels"),
        note(
            "Grey bars are 95 % intervals. The parameters vary together: a slope here is no effect of one alone."
            f"{_thinned(len(run.scored(goal)), min(len(run.scored(goal)), plots.MAX_DRAWN))}"
        ),
    ]


def responses(run: Run, analysis: Analysis) -> list[Html]:
    """Each objective along each share and parameter, with bands."""
    if not analysis.responses:
        return [note("No objective is known.")]
    parts: list[Html] = []
    for place, (metric, found) in enumerate(analysis.responses.items()):
        goal = next(goal for goal in run.goals if goal.metric == metric)
        finding = findings.answers(found)
        if len(run.goals) > 1:
            parts.append(element("h3", findings.label(goal)))
        if isinstance(found, str):
            parts += _notes(finding)
            continue
        panels = []
        for index, trace in enumerate(findings.rank_of_traces(found)):
            ends = plots_search.reach([other for other in found.traces if other.kind == trace.kind])
            svg = plots_search.trace(trace, ends, f"trace-{place}-{index}", findings.label(goal).lower())
            panels.append(figure(svg, f"{findings.label(goal)} along {trace.name}, with a band of 95 %"))
        parts += [*_notes(finding), element("div", *panels, class_="panels"), _table(finding)]
    parts.append(
        note(
            "Blue: the expected value and its 95 % band. A share moves from the middle of the tried mixes while all "
            "others keep their proportions (Cox's direction), the data fraction and the model size being at their "
            "largest. Grey: what the surrogate leaves of each trial, around the line (partial residuals)."
        )
    )
    return parts


def mixes(run: Run) -> list[Html]:
    """The mixes that were tried, in parallel coordinates and in triangles."""
    if not run.goals:
        return [note("No objective is known.")]
    goal = run.goals[0]
    scored = run.scored(goal)
    scored = scored[frame.weights(scored).notna().all(axis=1)]
    scored, where = _dearest(scored)
    shown = plots.drawn(scored, goal)
    shares = frame.weights(shown)
    if len(shown) == 0 or shares.empty:
        return [note("No complete trial carries a mixture.")]
    values = shown[goal.column].to_numpy(float)
    trials = shown["trial"].tolist()
    best_name = _best(run)
    best = trials.index(best_name) if best_name in trials else None
    parts: list[Html] = [
        legend(
            [
                *plots_search.fifth_entries(values, goal),
                *([("◯", "ink", f"trial {best_name}")] if best is not None else []),
            ]
        ),
        figure(plots_search.parallel(shares, values, goal, best), "Shares of each mix in parallel coordinates"),
    ]
    corners = []
    if set(AGENT_CAPABILITIES) <= set(shares.columns):
        corners.append(("Agent capabilities", shares[list(AGENT_CAPABILITIES)]))
    if {"general", "negative"} <= set(shares.columns):
        agent = [name for name in shares.columns if name in AGENT]
        table_ = pd.DataFrame(
            {"agent": shares[agent].sum(axis=1), "general": shares["general"], "negative": shares["negative"]}
        )
        corners.append(("Agent, general chat and negatives", table_))
    triangles = [
        figure(plots_search.ternary(part, values, goal, best, f"ternary-{place}"), heading, heading)
        for place, (heading, part) in enumerate(corners)
    ]
    parts.append(element("div", *triangles, class_="panels"))
    parts.append(
        note(
            f"{where}Coloured by the fifth of the {findings.label(goal).lower()} among complete trials. A corner of a "
            "triangle is all of one and none of the other two; its lines are a fifth apart."
            f"{_thinned(len(scored), len(shown))}"
        )
    )
    return parts


def prediction(analysis: Analysis) -> list[Html]:
    """The mix expected to be best."""
    finding = findings.prediction(analysis.prediction)
    return [*_notes(finding), *([_table(finding)] if finding.rows else [])]


def scaling(analysis: Analysis) -> list[Html]:
    """Fits over data fraction and model size, and whether cheap trials rank mixes as dear ones do."""
    parts: list[Html] = []
    if isinstance(analysis.laws, str):
        parts.append(note(analysis.laws))
    else:
        for place, law in enumerate(analysis.laws):
            finding = findings.law(law)
            sizes = list(law.curve)
            entries = (
                [
                    (plots_search.SIZE_SIGNS[index % 6], plots_search.SIZE_HUES[index % 6], name)
                    for index, name in enumerate(sizes)
                ]
                if len(sizes) > 1
                else []
            )
            entries.append(("○", "muted", "predicted, with its 95 % interval"))
            drawn = figure(plots_search.law(law, f"law-{place}"), f"{law.outcome} against the data fraction")
            parts += [
                element("h3", law.outcome),
                legend(entries),
                element("div", drawn, element("div", _table(finding, numbers=[1])), class_="pair"),
                *_notes(finding),
            ]
    parts.append(element("h3", "Do cheap trials rank mixes as dear ones do?"))
    finding = findings.agreements(analysis.agreements)
    if not isinstance(analysis.agreements, str):
        panels = [
            figure(plots_search.agreement(each, f"agreement-{place}"), f"{each.cheap} against {each.dear}")
            for place, each in enumerate(analysis.agreements[-MAX_PAIRS:])
        ]
        parts.append(element("div", *panels, class_="panels"))
    return [*parts, *_notes(finding), *([_table(finding, numbers=[2, 3, 4])] if finding.rows else [])]


def speeds(analysis: Analysis) -> list[Html]:
    """Tokens to shares of the drop."""
    finding = findings.speeds(analysis.speeds)
    return [
        element("h3", "How fast each is learnt"),
        *_notes(finding),
        *([_table(finding, numbers=range(2, len(finding.headers)))] if finding.rows else []),
    ]


def costs(run: Run, analysis: Analysis) -> list[Html]:
    """Where the time went, and what it cost."""
    finding = findings.costs(analysis.cost)
    if isinstance(analysis.cost, str):
        return _notes(finding)
    sums = {part: sum(each[part] for each in analysis.cost.seconds.values()) for part in plots.TIME_HUES}
    entries = [("■", hue, findings.PART_NAMES[part]) for part, hue in plots.TIME_HUES.items() if sums[part] > 0]
    shown = min(analysis.cost.num_timed, plots.MAX_TIME_ROWS)
    caption = f"The {shown} longest of {analysis.cost.num_timed} timed trials. The table counts all of them."
    drawn = figure(plots.times(run.trials), "Time of each trial by part", caption)
    rows = _table(finding, numbers=range(1, len(finding.headers)))
    return [legend(entries), element("div", drawn, element("div", rows, *_notes(finding)), class_="pair")]


def _best(run: Run) -> str | None:
    """The trial that is marked: what the search chose, else the one with the best value."""
    if run.best is not None:
        return str(run.best["trial"])
    if not run.goals:
        return None
    scored = run.scored(run.goals[0])
    scored = scored[~scored["kind"].isin(frame.REPEATED_KINDS)]
    if scored.empty:
        return None
    values = run.goals[0].sign * scored[run.goals[0].column].astype(float)
    return str(scored.at[values.idxmax(), "trial"])


def _dearest(scored: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The trials at the largest fidelity where there are some, and a sentence: smaller ones score lower at any mix."""
    columns = fidelity.level_columns(scored)
    if not columns:
        return scored, ""
    largest = scored[(scored[columns].astype(float) >= scored[columns].astype(float).max() - 1e-9).all(axis=1)]
    if len(largest) < MIN_DEAREST:
        return scored, "Of all fidelities, so a part of the differences is theirs. "
    name = fidelity.level_name({column: float(largest[column].iloc[0]) for column in columns})
    return largest, f"The {len(largest)} complete trials at {name}. "


def _thinned(num_scored: int, num_shown: int) -> str:
    if num_shown == num_scored:
        return ""
    best = plots.MAX_DRAWN // 3
    return f" {num_shown} of {num_scored:,} trials are drawn: the best {best}, and every n-th of the rest."


def _notes(finding: Finding) -> list[Html]:
    return [note(sentence) for sentence in finding.sentences]


def _table(finding: Finding, numbers: range | list[int] | None = None) -> Html:
    columns = range(1, len(finding.headers)) if numbers is None else numbers
    return table(finding.headers, finding.rows, columns) if finding.rows else Html("")
