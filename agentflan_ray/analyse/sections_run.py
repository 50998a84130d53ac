"""The sections of a report on a run: models compared, trials, the best mixture, losses, replies, corpus."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd

from agentflan_ray.analyse import cost, frame, plots
from agentflan_ray.analyse.cells import bounds, count, duration, estimate_cell, note, number, score_cell, value_of
from agentflan_ray.analyse.fidelity import short_size
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.headline import HEADLINE_METRICS
from agentflan_ray.analyse.page import Html, element, figure, join, legend, table

EXAMPLES_PER_CASE = 3
"""Taken in file order, not by how they turned out."""

MAX_TRIAL_ROWS = 100
MAX_ERRORS = 20

LAST_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    (frame.MODEL_SIZE, "Model size", short_size),
    (frame.FRACTION, "Fraction", value_of),
    ("supervised_tokens", "Supervised tokens", count),
    ("seconds.total", "Time", duration),
)
"""What follows the mix in the table of trials, where it is recorded: column, header, how a value is written."""

TRIAL_METRICS: tuple[str, ...] = tuple(name for name in frame.METRICS if name != "score")

HUES: dict[str, str] = {
    "reasoning": "blue",
    "retrieval": "orange",
    "understanding": "green",
    "instruction": "pink",
    "general": "sky",
    "negative": "red",
}
"""CSS colour variable of a mixture component."""


def cards(run: Run) -> Html:
    """The headline metrics of the best model, with the base's."""
    if not {"base", "best"} <= run.evaluations.keys():
        return Html("")
    base, best = (run.evaluations[name]["metrics"] for name in ("base", "best"))
    cards = [
        element(
            "div",
            element("span", f"{frame.metric(name).label} ({frame.metric(name).better} is better)"),
            element("b", number(best[name]["value"])),
            element("span", f"95 % interval {bounds(best[name])}"),
            element("span", f"base {estimate_cell(base[name])}"),
            class_="card",
        )
        for name in HEADLINE_METRICS
        if name in base and name in best
    ]
    return element("div", *cards[:4], class_="cards")


def done(run: Run) -> list[Html]:
    """What was done, as a list."""
    return [element("ul", *(element("li", sentence) for sentence in done_sentences(run)))]


def done_sentences(run: Run) -> list[str]:
    """Trials by state and kind, tokens, time, and what the reader must know of them."""
    states = run.trials["state"].value_counts()
    counted = ", ".join(f"{states[state]} {state}" for state in frame.STATES if state in states)
    kinds = run.trials["kind"].value_counts()
    kinds_counted = ", ".join(f"{kinds[kind]} {kind}" for kind in frame.KINDS if kind in kinds)
    sentences = [f"{len(run.trials)} trials ({counted or 'none'}) in {run.origin} {run.name}.", *run.notes]
    if run.origin == "run folder":
        model = run.sweep.get("model", {}).get("name", "a model that sweep.json does not name")
        sentences[0] = (
            f"{len(run.trials)} trials ({counted or 'none'}) tuned {model}, each on its own mixture of the same corpus"
            f"{f' ({kinds_counted})' if kinds_counted else ''}."
        )
    if "supervised_tokens" in run.trials:
        tokens = run.trials["supervised_tokens"].dropna()
        if len(tokens):
            sentences.append(
                f"A trial trained on {count(tokens.min())} to {count(tokens.max())} supervised tokens; weights are "
                "shares of these."
            )
    if constraints := run.sweep.get("constraints"):
        held = ", ".join(
            each["held"] + (f" ({each['asked']})" if "base" in each["asked"] else "") for each in constraints
        )
        sentences.append(f"The best mixture had to keep {held}.")
    seconds = cost.time_table(run.trials)["total"].sum()
    if seconds:
        sentences.append(f"Together the trials took {duration(seconds)}.")
    if "unfinished" in states and run.origin == "run folder":
        sentences.append(
            "An unfinished trial left no result.json: it was still running or was cut off, and counts in no comparison."
        )
    if run.cut_off:
        sentences.append(f"The last row of the curve of {', '.join(run.cut_off)} was half-written and is left out.")
    protocols = dict.fromkeys(str(value["protocol"]) for value in run.evaluations.values() if "protocol" in value)
    sentences.extend(f"Evaluation: {protocol}" for protocol in protocols)
    return sentences


def comparison(run: Run) -> list[Html]:
    """The models that were judged, by metric and by case."""
    if not run.evaluations:
        return [note("No evaluation has been written yet (evaluation/base.json, evaluation/best.json).")]
    metrics = {model: evaluation["metrics"] for model, evaluation in run.evaluations.items()}
    unfit = {name for values in metrics.values() for name, value in values.items() if not plots.is_share(value)}
    drawn = {
        model: {name: value for name, value in values.items() if name not in unfit} for model, values in metrics.items()
    }
    entries = [
        (plots.MODEL_SIGNS[i % 6], plots.MODEL_HUES[i % 6], _model_label(run, model))
        for i, model in enumerate(run.evaluations)
    ]
    headers, rows = metric_rows(run)
    metric_table = table(headers, rows, numbers=range(1, len(headers)))
    caption = (
        "Arrows show which way is better. A missed call is a tool not called although it was needed: read it beside "
        "false calls, or a model that never calls looks perfect."
    )
    if unfit:
        caption += f" In the table only, being no shares: {', '.join(sorted(unfit))}."
    parts = [legend(entries)]
    if any(drawn.values()):
        left = figure(plots.comparison(drawn), "Each metric of each model with its 95 % interval", caption)
        parts.append(element("div", left, metric_table, class_="pair"))
    else:
        parts.append(metric_table)
    headers, rows = case_rows(run)
    if rows:
        parts += [element("h3", "By case"), table(headers, rows, numbers=range(2, len(headers)))]
    parts.append(
        note(
            "Intervals are 95 % and belong to each model alone. The best trial was chosen among several, so its own "
            "number leans to the lucky side; the same mixture trained with other seeds, below, shows by how much."
        )
    )
    return parts


def metric_rows(run: Run) -> tuple[list[str], list[list[object]]]:
    """Headers and rows of the metrics by model."""
    values = {model: evaluation["metrics"] for model, evaluation in run.evaluations.items()}
    headers = ["Metric", *values, *_difference_header(run), "n"]
    names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
    return headers, [[frame.metric(name).label, *_estimates(values, name)] for name in names]


def case_rows(run: Run) -> tuple[list[str], list[list[object]]]:
    """Headers and rows of the metrics by case and model."""
    cases = list(dict.fromkeys(case for evaluation in run.evaluations.values() for case in evaluation["cases"]))
    headers = ["Case", "Metric", *run.evaluations, *_difference_header(run), "n"]
    rows: list[list[object]] = []
    for case in cases:
        values = {model: evaluation["cases"].get(case, {}) for model, evaluation in run.evaluations.items()}
        names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
        rows += [[case, frame.metric(name).label, *_estimates(values, name)] for name in names]
    return headers, rows


def _estimates(values: dict[str, dict[str, Any]], name: str) -> list[object]:
    """The cells of one metric: each model's estimate, best minus base where both are there, and n."""
    given = {model: metrics[name] for model, metrics in values.items() if name in metrics}
    cells: list[object] = [estimate_cell(given[model]) if model in given else "–" for model in values]
    if {"base", "best"} <= values.keys():
        both = {"base", "best"} <= given.keys()
        cells.append(f"{given['best']['value'] - given['base']['value']:+.3f}".replace("-", "−") if both else "–")
    cells.append(" / ".join(dict.fromkeys(str(value["n"]) for value in given.values())))
    return cells


def _difference_header(run: Run) -> list[str]:
    return ["best − base"] if {"base", "best"} <= run.evaluations.keys() else []


def trials(run: Run) -> list[Html]:
    """Every trial, the best first; of thousands only the head of the list."""
    components = frame.components(run.trials)
    goals = [*run.goals] or [frame.Goal("score", "max")]
    shown_apart = {goal.metric for goal in goals}
    metrics = [name for name in TRIAL_METRICS if f"metrics.{name}" in run.trials and name not in shown_apart]
    candidates = set(run.best.get("candidates", ())) if run.best else set()
    ranked_trials = ranked(run)
    columns = [each for each in LAST_COLUMNS if each[0] in run.trials and run.trials[each[0]].notna().any()]
    rows = []
    for _, row in ranked_trials.head(MAX_TRIAL_ROWS).iterrows():
        tags = [element("span", row["kind"], class_="tag named")] if row["kind"] in frame.NAMED_MIXES else []
        if run.best and row["trial"] == run.best["trial"]:
            tags.append(element("span", "best", class_="tag best"))
        elif row["trial"] in candidates:
            tags.append(element("span", "overlaps best", class_="tag"))
        if row["kind"] in frame.REPEATED_KINDS:
            tags.append(element("span", row["kind"], class_="tag"))
        rows.append(
            [
                join([row["trial"], " ", *(join([tag, " "]) for tag in tags)]),
                element("span", row["state"], class_=f"tag {row['state']}"),
                *(score_cell(row, goal) for goal in goals),
                *(number(row[f"metrics.{name}"]) for name in metrics),
                *(
                    [_mix_bar(frame.part(row, "realised") or frame.part(row, "asked"), components)]
                    if components
                    else []
                ),
                *(write(row[column]) for column, _, write in columns),
            ]
        )
    headers = ["Trial", "State", *(frame.metric(name).label for name in [*(goal.metric for goal in goals), *metrics])]
    numbers = [*range(2, len(headers))]
    headers += ["Realised mix"] if components else []
    numbers += range(len(headers), len(headers) + len(columns))
    headers += [header for _, header, _ in columns]
    errors = ranked_trials.dropna(subset=["error"]).groupby("error", sort=False)["trial"].agg(list)
    listed = [[_few(names), element("code", error)] for error, names in errors.head(MAX_ERRORS).items()]
    failures = [element("h3", "Errors"), table(["Trial", "Error"], listed)]
    cut = f" The first {MAX_TRIAL_ROWS} of {len(ranked_trials)} are shown." if len(ranked_trials) > len(rows) else ""
    named = " Paper, proportional and uniform are the named mixes every search starts from." * bool(components)
    return [
        legend([("■", _hue(name), name) for name in components]),
        table(headers, rows, numbers),
        note(
            "Complete trials first, then by score. A pruned trial carries its value at the point where it was stopped, "
            f"so it does not compare with complete ones.{named}{cut} All fields are in trials.csv and trials.parquet."
        ),
        *(failures if len(errors) else []),
    ]


def _few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    return f"{', '.join(names[:3])} and {len(names) - 3} more" if len(names) > 4 else ", ".join(names)


def ranked(run: Run) -> pd.DataFrame:
    """The trials by state, and the better ones first."""
    goal = run.goals[0] if run.goals else frame.Goal("score", "max")
    values = pd.to_numeric(run.trials.get(goal.column, pd.Series(float("nan"), run.trials.index)), errors="coerce")
    keys = pd.DataFrame(
        {
            "state": run.trials["state"].map(frame.STATES.index),
            "score": -goal.sign * values,
            "number": run.trials["number"],
        }
    )
    return run.trials.loc[keys.sort_values(["state", "score", "number"]).index]


def _mix_bar(mix: dict[str, float], components: Sequence[str]) -> Html:
    if not mix:
        return Html("–")
    pieces = [
        element(
            "i",
            style=f"width: {100 * mix[name]:.1f}%; background: var(--{_hue(name)})",
            title=f"{name} {mix[name]:.1%}",
        )
        for name in components
        if mix.get(name, 0) > 0
    ]
    described = ", ".join(f"{name} {mix[name]:.0%}" for name in components if name in mix)
    return element("div", *pieces, class_="mix", role="img", aria_label=described)


def mixture(run: Run) -> list[Html]:
    """The best mixture and its confirmations."""
    if run.best is None:
        return [note("The search has not chosen one: best_mixture.json has not been written.")]
    best = run.best
    confirmed = best.get("confirmed", [])
    names = [name for name in HEADLINE_METRICS if any(name in repeat["metrics"] for repeat in confirmed)]
    right = [
        element("h3", f"Parameters of trial {best['trial']}"),
        table(
            ["Parameter", "Value"],
            [[name, value_of(value)] for name, value in best.get("parameters", {}).items()]
            + ([["data fraction", value_of(best["fraction"])]] if "fraction" in best else []),
            numbers=[1],
        ),
    ]
    parts = [
        legend([("■", "orange", "asked"), ("■", "blue", "realised")]),
        element(
            "div",
            figure(
                plots.shares(best["weights"], best["realised"]),
                "Asked and realised share of supervised tokens by component",
                "Share of supervised tokens. A component falls short where the corpus runs out of it at the allowed "
                "repetition.",
            ),
            element("div", *right),
            class_="pair",
        ),
        *(element("p", sentence) for sentence in choice_sentences(run, best)),
    ]
    if confirmed:
        rows = [[repeat["seed"], *(number(repeat["metrics"].get(name)) for name in names)] for repeat in confirmed]
        values = {
            name: [repeat["metrics"][name] for repeat in confirmed if name in repeat["metrics"]] for name in names
        }
        rows.append(["range", *(f"{number(min(values[n]))} to {number(max(values[n]))}" for n in names)])
        headers = ["Seed", *(frame.metric(name).label for name in names)]
        parts += [
            element("h3", "Trained again with other seeds"),
            table(headers, rows, numbers=range(1, len(headers))),
        ]
    else:
        parts.append(note("It was not trained again with other seeds, so its spread between seeds is not known."))
    return parts


def choice_sentences(run: Run, best: dict[str, Any]) -> list[str]:
    """How sure the choice is: which trials are as good within their intervals, and which scored higher yet lost."""
    others = [str(name) for name in best.get("candidates", []) if name != best["trial"]]
    sentences = ["No other trial's score interval overlaps that of the best."]
    if others:
        sentences = [
            f"Best is a set: the score intervals of {', '.join(others)} overlap that of {best['trial']}, so this "
            "evaluation does not tell them apart."
        ]
    goal = run.goals[0]
    rivals = run.scored(goal)
    rivals = rivals[~rivals["kind"].isin(frame.REPEATED_KINDS)]
    values = goal.sign * rivals.set_index("trial")[goal.column].astype(float)
    higher = list(values.index[values > values.get(best["trial"], float("nan"))])
    if len(higher):
        sentences.append(
            f"Not chosen although the score is higher: {', '.join(higher)} (see the recipe's constraints)."
        )
    if "rule" in best:
        sentences.append(f"Chosen by a rule that was there before the search: {best['rule']}.")
    return sentences


def losses(run: Run) -> list[Html]:
    """The curves of the losses."""
    if run.curves.empty:
        return [note("No trial has written a curve.")]
    best = str(run.best["trial"]) if run.best else None
    panels = plots.losses(run.curves, best)
    entries = [("━", "blue", "training"), ("━", "orange", "validation")]
    thick = f"Thick: trial {best}. Thin: the other trials. " if best else "All trials. "
    explicit = ""
    if any(str(column).startswith("explicit_loss/") for column in run.curves):
        explicit = (
            " Of ReAct, JSON and string samples the format's own words and marks are told from the thoughts, names and "
            "values within it (the paper's first observation)."
        )
    return [
        legend(entries),
        element(
            "div", *(figure(svg, f"Loss of {name} against tokens") for name, svg in panels.items()), class_="panels"
        ),
        note(
            f"{thick}Cross-entropy per supervised token. Training losses are running means over a fifteenth of the "
            f"steps; a start far above the rest leaves the panel.{explicit}"
        ),
    ]


def replies(run: Run) -> list[Html]:
    """Example replies of the base model and the best one, side by side."""
    models = [name for name in ("base", "best") if name in run.evaluations]
    examples: dict[str, dict[str, dict[str, Any]]] = {}
    for model in models:
        for example in run.evaluations[model]["examples"]:
            examples.setdefault(str(example["id"]), {})[model] = example
    cases: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for replies in examples.values():
        cases.setdefault(str(next(iter(replies.values()))["case"]), []).append(replies)
    if not cases:
        return [note("No example reply has been written.")]
    parts = [note(f"The first {EXAMPLES_PER_CASE} of each case in file order, not chosen by how they turned out.")]
    for case, items in cases.items():
        parts.append(element("h3", case))
        parts += [_example(replies, models) for replies in items[:EXAMPLES_PER_CASE]]
    return parts


def _example(replies: dict[str, dict[str, Any]], models: Sequence[str]) -> Html:
    query = str(next(iter(replies.values()))["query"])
    columns = []
    for model in models:
        if model in replies:
            scores = ", ".join(f"{name} {value_of(value)}" for name, value in replies[model].get("scores", {}).items())
            shown = [element("pre", replies[model]["reply"]), element("small", scores)]
        else:
            shown = [note("This item is not among the written examples of this model.")]
        columns.append(element("div", element("span", model, class_="tag"), *shown))
    return element(
        "div", element("div", query, class_="query"), element("div", *columns, class_="replies"), class_="example"
    )


def corpus(run: Run) -> list[Html]:
    """What the corpus holds, and what was left out of it."""
    corpus = run.sweep.get("corpus", {})
    rows = corpus.get("table", [])
    if not rows:
        return [note("sweep.json holds no corpus table.")]
    supervised = sum(row["supervised_tokens"] for row in rows)
    cells = [
        [
            *(row[key] for key in ("component", "form", "case")),
            *(count(row[key]) for key in ("samples", "tokens", "supervised_tokens")),
            f"{row['supervised_tokens'] / max(supervised, 1):.1%}",
        ]
        for row in rows
    ]
    # Only supervised tokens add up: one sample can carry several components.
    cells.append(["all", "", "", "", "", count(supervised), "100.0%"])
    headers = ["Component", "Form", "Case", "Samples", "Tokens", "Supervised tokens", "Share"]
    counts = corpus.get("counts", {})
    parts = [table(headers, cells, numbers=range(3, 7))]
    reasons = [
        [what, reason, count(records)]
        for what in ("dropped", "quarantined")
        for reason, records in sorted(counts.get(what, {}).items(), key=lambda pair: -pair[1])
    ]
    if "kept" in counts:
        reasons.insert(0, ["kept", "", count(counts["kept"])])
    if reasons:
        parts += [
            element("h3", "What was kept and why the rest was not"),
            table(["", "Reason", "Records"], reasons, [2]),
        ]
    return parts


def reproduce(run: Run) -> list[Html]:
    """The command, fingerprints, seeds, hardware, versions and recipe."""
    sweep = run.sweep
    fingerprints = {
        "model": sweep.get("model", {}).get("fingerprint"),
        "corpus": sweep.get("corpus", {}).get("fingerprint"),
    }
    if run.best:
        row = run.trials.set_index("trial").loc[run.best["trial"]]
        fingerprints |= {f"{name} (best trial)": value for name, value in frame.part(row, "fingerprints").items()}
    blocks = [
        ("Fingerprints", fingerprints),
        ("Seeds", sweep.get("seeds", {})),
        ("Hardware", sweep.get("hardware", {})),
        ("Versions", sweep.get("versions", {})),
    ]
    lists = [
        element("div", element("h3", name), table([], [[key, value_of(value)] for key, value in values.items()]))
        for name, values in blocks
        if values
    ]
    recipe = json.dumps(sweep.get("recipe", {}), indent=2, ensure_ascii=False)
    return [
        element("pre", sweep["command"]),
        element("div", *lists, class_="panels"),
        element("details", element("summary", "Recipe"), element("pre", recipe)),
    ]


def _hue(component: str) -> str:
    return HUES.get(component, "muted")


def _model_label(run: Run, model: str) -> str:
    described = run.evaluations[model].get("model")
    return f"{model} ({described})" if isinstance(described, str) and described != model else model
