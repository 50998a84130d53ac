"""What an analysis found, in sentences and rows: the same words for the page and for the summary."""

from __future__ import annotations

from typing import NamedTuple

from agentflan_ray.analyse import cost, frame, response, speed, surrogate
from agentflan_ray.analyse.analysis import Analysis
from agentflan_ray.analyse.cells import count, duration, number, spread_cell
from agentflan_ray.analyse.cost import Cost
from agentflan_ray.analyse.fidelity import Agreement
from agentflan_ray.analyse.frame import Goal, Run
from agentflan_ray.analyse.pareto import Front
from agentflan_ray.analyse.response import Prediction, Response
from agentflan_ray.analyse.scaling import Law

PART_NAMES: dict[str, str] = {"startup": "start-up", "train": "training", "evaluate": "evaluation", "other": "other"}


class Finding(NamedTuple):
    """Sentences, and a table that may be empty."""

    sentences: list[str]
    headers: list[str]
    rows: list[list[str]]


def nothing(sentence: str) -> Finding:
    """A part with nothing to show, and why."""
    return Finding([sentence], [], [])


def label(goal: Goal) -> str:
    """An objective as a reader knows it."""
    return frame.metric(goal.metric).label


def importances(analysis: Analysis) -> Finding:
    """Shares by parameter, a column for each method and objective."""
    computed = [each for each in analysis.importances if each.shares]
    sentences = list(dict.fromkeys(each.basis for each in analysis.importances))
    names = list(dict.fromkeys(name for each in computed for name in each.shares))
    headers = ["Parameter", *(f"{label(each.goal)}, {each.method} (n = {each.num_trials})" for each in computed)]
    rows = [[name, *(number(each.shares.get(name), "{:.0%}") for each in computed)] for name in names]
    return Finding(sentences, headers if rows else [], rows)


def answers(found: Response | str) -> Finding:
    """How far an objective changes over each share and parameter."""
    if isinstance(found, str):
        return nothing(found)
    held_out = found.held_out
    most = surrogate.MAX_TRIALS
    sample = f", of which a sample of {most} is taken" if found.num_trials > most else ""
    sentences = [
        f"A Gaussian process of {found.num_trials} complete trials at {found.num_points} different points{sample}. "
        f"Left out one by one, they are predicted with {held_out.r_squared:.0%} of their variance explained, and "
        f"{held_out.coverage:.0%} of them lie within their 95 % interval."
    ]
    if found.caution:
        sentences.append(found.caution)
    rows = [
        [
            trace.name,
            f"{trace.at[0]:.1%} to {trace.at[-1]:.1%}"
            if trace.kind == "share"
            else f"{trace.at[0]:.3g} to {trace.at[-1]:.3g}",
            spread_cell((trace.change, trace.change_low, trace.change_high), "{:+.3f}"),
            "yes" if trace.change_low > 0 or trace.change_high < 0 else "no",
        ]
        for trace in sorted(found.traces, key=lambda trace: -abs(trace.change))
    ]
    headers = ["Share or parameter", "From … to", f"Change of {label(found.goal).lower()} [95 %]", "Told from 0"]
    return Finding(sentences, headers, rows)


def prediction(found: Prediction | str) -> Finding:
    """The mix expected to be best, and how sure that is."""
    if isinstance(found, str):
        return nothing(f"Not predicted: {found}")
    where = ", ".join(
        f"{'data fraction' if name == frame.FRACTION else 'model size'} {value:.4g}"
        for name, value in found.fidelity.items()
    )
    sentences = [
        "A prediction: nobody has trained this mix. It is the one within the range that was tried of which the "
        f"surrogate expects most{f' at {where}' if where else ''}.",
        f"Expected {label(found.goal).lower()} {spread_cell(found.score)} (90 % interval of what is expected, not of a "
        f"single trial). Against the best tried mix there, that of trial {found.best_tried}: "
        f"{spread_cell(found.gain, '{:+.3f}')}, better with probability {found.probability_of_gain:.0%}.",
    ]
    if found.fidelity:
        sentences.append(
            f"{found.num_trials_there} of the {found.num_trials} trials that it rests on were run at that fidelity."
        )
    if found.constraints:
        sentences.append(f"Held by expectation: {', '.join(found.constraints)}.")
    if found.parameters:
        listed = ", ".join(f"{name} {value:.3g}" for name, value in found.parameters.items())
        sentences.append(f"Its other parameters: {listed}.")
    if found.caution:
        sentences.append(found.caution)
    rows = [
        [name, f"{spread.value:.1%}", f"{spread.low:.1%} to {spread.high:.1%}"]
        for name, spread in found.weights.items()
    ]
    return Finding(sentences, ["Component", "Predicted share", "5 % to 95 % of where the best may lie"], rows)


def front(found: Front, run: Run) -> Finding:
    """The undominated trials."""
    first, second = found.goals
    broken = sum(each is False for each in found.feasible)
    unknown = sum(each is None for each in found.feasible)
    sentences = [
        f"{len(found.front)} of {len(found.trials)} complete trials are beaten by no other one in both "
        f"{label(first).lower()} and {label(second).lower()}."
    ]
    if broken:
        sentences.append(f"{broken} break a constraint and are not on the front (crosses).")
    if unknown and unknown < len(found.feasible):
        sentences.append(f"Of {unknown} no constraint was recorded; they count as holding them.")
    elif unknown:
        sentences.append("No constraint was recorded.")
    if not found.is_searched:
        sentences.append(
            f"The search had one objective; {label(second).lower()} beside it is this report's choice, and was not "
            "sought."
        )
    values = dict(zip(found.trials, found.values, strict=True))
    kinds = run.trials.set_index("trial")["kind"]
    rows = [
        [trial, str(kinds.get(trial, "")), f"{values[trial][0]:.3f}", f"{values[trial][1]:.3f}"]
        for trial in found.front[:30]
    ]
    return Finding(sentences, ["Trial", "Kind", label(first), label(second)], rows)


def agreements(found: list[Agreement] | str) -> Finding:
    """Rank correlations between fidelities."""
    if isinstance(found, str):
        return nothing(found)
    rows = [
        [
            each.cheap,
            each.dear,
            str(each.num_mixes),
            spread_cell((each.correlation, each.low, each.high), "{:.2f}"),
            f"{each.lost:.3f}",
        ]
        for each in found
    ]
    headers = ["Cheap", "Dear", "Mixes at both", "Rank correlation [95 %]", f"{label(found[0].goal)} lost"]
    sentence = (
        f"Spearman's correlation of the {label(found[0].goal).lower()} of the same mixes, and what is lost at the dear "
        "fidelity by taking the mix that was best at the cheap one."
    )
    return Finding([sentence], headers, rows)


def law(found: Law) -> Finding:
    """The numbers of a scaling law, what comes next, and the check."""
    sentences = [
        f"{found.outcome} = {found.formula} over the data fraction D, fitted to {found.num_trials} trials: "
        f"{found.basis}"
    ]
    rows = [
        ["E", spread_cell(found.offset)],
        ["A", spread_cell(found.factor)],
        ["a", spread_cell(found.exponent)],
        *([f"{name}: more by", spread_cell(each)] for name, each in found.smaller.items()),
    ]
    if found.size_factor is not None and found.size_exponent is not None:
        rows += [["B, of the smallest model", spread_cell(found.size_factor)], ["b", spread_cell(found.size_exponent)]]
    elif found.smaller:
        sentences.append("Two model sizes show a difference and no exponent: a law over the size needs three.")
    rows += [[f"predicted at {name}", spread_cell(each)] for name, each in found.next_sizes.items()]
    for check in found.checks:
        within = {True: "within", False: "outside of", None: "without"}[check.is_within]
        sentences.append(
            f"Check: with {check.what} left out, the smaller ones predict {spread_cell(check.predicted)} for it; "
            f"measured {check.measured:.3f}, an error of {check.error:+.3f}, {within} the 95 % interval."
        )
    if found.factor.value < 1e-9:
        sentences.append("The fit finds no gain from more data: A is 0, and a means nothing.")
    return Finding(sentences, ["", "Estimate [95 %]"], rows)


def speeds(found: list[speed.Speed] | str) -> Finding:
    """Tokens to shares of the final drop."""
    if isinstance(found, str):
        return nothing(found)
    rows = []
    for each in found:
        reached = [
            f"{count(at.median)} ({count(at.low)}–{count(at.high)})" if each.num_trials > 1 else count(at.median)
            for at in each.reached
        ] or ["–"] * len(speed.SHARES)
        rows.append(
            [
                each.component,
                each.curve,
                str(each.num_trials),
                f"{each.drop:.3f}",
                *reached,
                str(each.num_flat) if each.num_flat else "",
            ]
        )
    headers = ["Component", "Curve", "n", "Drop", *(f"{share:.0%}" for share in speed.SHARES), "Did not fall"]
    sentences = [
        "Tokens seen until a share of the loss's final drop: median over complete trials at the largest data fraction, "
        "with quartiles. A training curve is smoothed."
    ]
    order = speed.order_sentence(found)
    return Finding([*sentences, order] if order else sentences, headers, rows)


def costs(found: Cost | str) -> Finding:
    """Time by state and part."""
    if isinstance(found, str):
        return nothing(found)
    parts = [*cost.PARTS, "other"]
    shown = [part for part in parts if sum(seconds[part] for seconds in found.seconds.values()) > 0]
    factor = found.devices.count / 3600
    rows = [
        [
            state,
            *(duration(seconds[part]) for part in shown),
            duration(seconds["total"]),
            _hours(seconds["total"] * factor),
        ]
        for state, seconds in found.seconds.items()
    ]
    sums = {part: sum(seconds[part] for seconds in found.seconds.values()) for part in (*shown, "total")}
    rows.append(["all", *(duration(sums[part]) for part in shown), duration(sums["total"]), _hours(found.hours)])
    rows.append(["share", *(f"{sums[part] / max(sums['total'], 1e-9):.1%}" for part in shown), "", ""])
    unit = "Trial hours" if found.devices.kind == "trial" else f"{found.devices.kind} hours"
    sentences = []
    if found.devices.kind == "trial":
        sentences.append("No file says how many devices a trial used: hours are those of a trial with all its workers.")
    else:
        sentences.append(f"A trial holds {found.devices.count:g} {found.devices.kind}s.")
    if found.num_untimed:
        sentences.append(f"{found.num_untimed} trials recorded no time and are in no sum.")
    if found.saved_seconds is not None and found.saved_share is not None:
        sentences.append(
            f"Stopping early saved {duration(found.saved_seconds)}, {found.saved_share:.0%} of what the search would "
            f"have taken otherwise: {found.saved}"
        )
    else:
        sentences.append(found.saved)
    if found.money is not None and found.price is not None:
        sentences.append(f"At {found.price:g} for one {found.devices.kind} hour: {found.money:,.2f} for all trials.")
    return Finding(sentences, ["State", *(PART_NAMES[part] for part in shown), "Total", unit], rows)


def is_generic(run: Run) -> bool:
    """Whether the trials carry no mixture, as those of another study."""
    return not frame.components(run.trials)


def rank_of_traces(found: Response) -> list[response.Trace]:
    """Shares first, each group by how far the objective changes."""
    return sorted(found.traces, key=lambda trace: (trace.kind != "share", -abs(trace.change)))


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours < 100 else f"{hours:,.0f}"
