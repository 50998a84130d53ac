"""One self-contained report of a run: what was done, what came out, and how far it can be trusted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from agentflan_ray.analyse import frame, plots
from agentflan_ray.analyse.frame import Run
from agentflan_ray.analyse.page import Html, document, element, figure, join, legend, table

EXAMPLES_PER_CASE = 3
"""Taken in file order, not by how they turned out."""

HEADLINE_METRICS: tuple[str, ...] = ("score", "tool_score", "false_call_rate", "missed_call_rate", "hscore")
"""The first one that both models have carries the headline; the first four make the cards."""

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


class Headline(NamedTuple):
    """``verdict`` is ``better``, ``worse``, ``overlap`` (the intervals overlap) or ``open`` (nothing to compare)."""

    verdict: str
    sentence: str


def write(run: Path) -> Path:
    """Write ``report.html``, ``report.md`` and ``trials.csv`` into the run folder; returns the path of the first.

    The page needs no network and no script. Every text from a model, a user or a file is escaped.

    Raises:
        ValueError: see :func:`agentflan_ray.analyse.frame.load`.
    """
    loaded = frame.load(run)
    importances, basis = frame.importances(run, loaded.sweep["name"])
    loaded.trials.to_csv(run / "trials.csv", index=False)
    (run / "report.md").write_text(_markdown(loaded), encoding="utf-8")
    path = run / "report.html"
    path.write_text(_page(loaded, importances, basis), encoding="utf-8")
    return path


def headline(run: Run) -> Headline:
    """The best mixture against the base model in one sentence, honest when the intervals overlap or the best is worse.

    The intervals are each model's own; two that do not overlap differ by more than this evaluation's noise, while two
    that overlap leave the question open rather than proving them equal.
    """
    missing = [name for name in ("base", "best") if name not in run.evaluations]
    if run.best is None or missing:
        absent = "best_mixture.json" if run.best is None else f"evaluation/{missing[0]}.json"
        return Headline("open", f"There is no comparison with the base model yet: {absent} has not been written.")
    base, best = (run.evaluations[name]["metrics"] for name in ("base", "best"))
    name = next((name for name in HEADLINE_METRICS if name in base and name in best), None)
    if name is None:
        return Headline("open", "There is no comparison: the two evaluations share none of the headline metrics.")
    ours, theirs = best[name], base[name]
    verdict, gain = _verdict(name, theirs, ours)
    if verdict != "overlap":
        outcome = f"That is {verdict}, and the 95 % intervals do not overlap."
    elif gain >= 0:
        outcome = "The 95 % intervals overlap, so this evaluation does not show a difference."
    else:
        outcome = "It came out worse, and the 95 % intervals overlap, so no improvement is shown."
    lost = [other for other in base if other in best and _verdict(other, base[other], best[other])[0] == "worse"]
    price = "".join(
        f" {frame.metric(other).label} got worse: {_estimate(best[other])} after {_estimate(base[other])}."
        for other in lost
        if other != name
    )
    return Headline(
        verdict,
        f"{frame.metric(name).label} of the best mixture (trial {run.best['trial']}): {_estimate(ours)} on {ours['n']} "
        f"items; of the base model: {_estimate(theirs)} on {theirs['n']}. {outcome}{price}",
    )


def _verdict(name: str, base: dict[str, Any], best: dict[str, Any]) -> tuple[str, float]:
    """``better``, ``worse`` or ``overlap``, and by how much the best gains; a metric of unknown direction overlaps."""
    better = frame.metric(name).better
    gain = (best["value"] - base["value"]) * (-1 if better == "lower" else 1)
    if better is None or (best["low"] <= base["high"] and base["low"] <= best["high"]):
        return "overlap", gain
    return "better" if gain > 0 else "worse", gain


def _page(run: Run, importances: dict[str, float], basis: str) -> str:
    sections: list[tuple[str, str, list[Html]]] = [
        ("done", "What was done", _done(run)),
        ("compare", "Base against best", _comparison(run)),
        ("trials", "Trials", _trials(run)),
        ("mixture", "The best mixture", _mixture(run)),
        ("losses", "Loss by component", _losses(run)),
        ("parameters", "What mattered", _parameters(run, importances, basis)),
        ("time", "Where the time went", _times(run)),
        ("replies", "Replies, base and best", _replies(run)),
        ("corpus", "Corpus", _corpus(run)),
        ("reproduce", "Reproduce", _reproduce(run)),
    ]
    top = headline(run)
    title = f"Mixture search: {run.sweep['name']}"
    links = [element("a", heading, href=f"#{anchor}") for anchor, heading, _ in sections]
    body = [
        element("div", f"agentflan-ray · {run.sweep.get('created', 'date not recorded')}", class_="eyebrow"),
        element("h1", title),
        element("p", top.sentence, class_=f"verdict {top.verdict}"),
        _cards(run),
        element("nav", *links),
    ]
    for anchor, heading, content in sections:
        body.append(element("section", element("h2", heading, id=anchor), *content))
    return document(title, body)


def _cards(run: Run) -> Html:
    if not {"base", "best"} <= run.evaluations.keys():
        return Html("")
    base, best = (run.evaluations[name]["metrics"] for name in ("base", "best"))
    cards = [
        element(
            "div",
            element("span", f"{frame.metric(name).label} ({frame.metric(name).better} is better)"),
            element("b", _number(best[name]["value"])),
            element("span", f"95 % interval {_bounds(best[name])}"),
            element("span", f"base {_estimate(base[name])}"),
            class_="card",
        )
        for name in HEADLINE_METRICS
        if name in base and name in best
    ]
    return element("div", *cards[:4], class_="cards")


def _done(run: Run) -> list[Html]:
    return [element("ul", *(element("li", sentence) for sentence in _done_sentences(run)))]


def _done_sentences(run: Run) -> list[str]:
    states = run.trials["state"].value_counts()
    counted = ", ".join(f"{states[state]} {state}" for state in frame.STATES if state in states)
    kinds = run.trials["kind"].value_counts()
    kinds_counted = ", ".join(f"{kinds[kind]} {kind}" for kind in frame.KINDS if kind in kinds)
    model = run.sweep.get("model", {}).get("name", "a model that sweep.json does not name")
    sentences = [
        f"{len(run.trials)} trials ({counted or 'none'}) tuned {model}, each on its own mixture of the same corpus"
        f"{f' ({kinds_counted})' if kinds_counted else ''}."
    ]
    if "supervised_tokens" in run.trials:
        tokens = run.trials["supervised_tokens"].dropna()
        if len(tokens):
            sentences.append(
                f"A trial trained on {_count(tokens.min())} to {_count(tokens.max())} supervised tokens; weights are "
                "shares of these."
            )
    seconds = plots.time_table(run.trials)["total"].sum()
    if seconds:
        sentences.append(f"Together the trials took {_duration(seconds)}.")
    if "unfinished" in states:
        sentences.append(
            "An unfinished trial left no result.json: it was still running or was cut off, and counts in no comparison."
        )
    if run.cut_off:
        sentences.append(f"The last row of the curve of {', '.join(run.cut_off)} was half-written and is left out.")
    protocols = dict.fromkeys(str(value["protocol"]) for value in run.evaluations.values() if "protocol" in value)
    sentences.extend(f"Evaluation: {protocol}" for protocol in protocols)
    return sentences


def _comparison(run: Run) -> list[Html]:
    if not run.evaluations:
        return [_note("No evaluation has been written yet (evaluation/base.json, evaluation/best.json).")]
    metrics = {model: evaluation["metrics"] for model, evaluation in run.evaluations.items()}
    unfit = {name for values in metrics.values() for name, value in values.items() if not plots.is_share(value)}
    drawn = {
        model: {name: value for name, value in values.items() if name not in unfit} for model, values in metrics.items()
    }
    entries = [
        (plots.MODEL_SIGNS[i % 6], plots.MODEL_HUES[i % 6], _model_label(run, model))
        for i, model in enumerate(run.evaluations)
    ]
    headers, rows = _metric_rows(run)
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
    headers, rows = _case_rows(run)
    if rows:
        parts += [element("h3", "By case"), table(headers, rows, numbers=range(2, len(headers)))]
    parts.append(
        _note(
            "Intervals are 95 % and belong to each model alone. The best trial was chosen among several, so its own "
            "number leans to the lucky side; the same mixture trained with other seeds, below, shows by how much."
        )
    )
    return parts


def _metric_rows(run: Run) -> tuple[list[str], list[list[object]]]:
    values = {model: evaluation["metrics"] for model, evaluation in run.evaluations.items()}
    headers = ["Metric", *values, *_difference_header(run), "n"]
    names = list(dict.fromkeys(name for metrics in values.values() for name in metrics))
    return headers, [[frame.metric(name).label, *_estimates(values, name)] for name in names]


def _case_rows(run: Run) -> tuple[list[str], list[list[object]]]:
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
    cells: list[object] = [_estimate(given[model]) if model in given else "–" for model in values]
    if {"base", "best"} <= values.keys():
        both = {"base", "best"} <= given.keys()
        cells.append(f"{given['best']['value'] - given['base']['value']:+.3f}".replace("-", "−") if both else "–")
    cells.append(" / ".join(dict.fromkeys(str(value["n"]) for value in given.values())))
    return cells


def _difference_header(run: Run) -> list[str]:
    return ["best − base"] if {"base", "best"} <= run.evaluations.keys() else []


def _trials(run: Run) -> list[Html]:
    components = _components(run)
    metrics = [name for name in TRIAL_METRICS if f"metrics.{name}" in run.trials]
    candidates = set(run.best.get("candidates", ())) if run.best else set()
    rows = []
    for _, row in _ranked(run).iterrows():
        tags = [element("span", row["kind"], class_="tag named")] if row["kind"] in frame.NAMED_MIXES else []
        if run.best and row["trial"] == run.best["trial"]:
            tags.append(element("span", "best", class_="tag best"))
        elif row["trial"] in candidates:
            tags.append(element("span", "overlaps best", class_="tag"))
        if row["kind"] in ("confirm", "ablation"):
            tags.append(element("span", row["kind"], class_="tag"))
        rows.append(
            [
                join([row["trial"], " ", *(join([tag, " "]) for tag in tags)]),
                element("span", row["state"], class_=f"tag {row['state']}"),
                _score(row),
                *(_number(frame.part(row, "metrics").get(name)) for name in metrics),
                _mix_bar(frame.part(row, "realised"), components),
                _number(row.get("fraction"), "{:.3g}"),
                _count(row.get("supervised_tokens")),
                _duration(frame.part(row, "seconds").get("total")),
            ]
        )
    headers = ["Trial", "State", "Score", *(frame.metric(name).label for name in metrics)]
    headers += ["Realised mix", "Fraction", "Supervised tokens", "Time"]
    last = len(headers)
    numbers = [*range(2, 3 + len(metrics)), last - 3, last - 2, last - 1]
    errors = run.trials.dropna(subset=["error"])
    failures = [
        element("h3", "Errors"),
        table(["Trial", "Error"], [[row["trial"], element("code", row["error"])] for _, row in errors.iterrows()]),
    ]
    return [
        legend([("■", _hue(name), name) for name in components]),
        table(headers, rows, numbers),
        _note(
            "Complete trials first, then by score. A pruned trial carries its value at the point where it was stopped, "
            "so it does not compare with complete ones. Paper, proportional and uniform are the named mixes every "
            "search starts from. All fields are in trials.csv."
        ),
        *(failures if len(errors) else []),
    ]


def _ranked(run: Run) -> pd.DataFrame:
    table = run.trials.reindex(columns=[*dict.fromkeys([*run.trials.columns, "metrics.score"])])
    order = table["state"].map(frame.STATES.index)
    ranked = table.copy().assign(order=order, score=-table["metrics.score"].astype(float))
    return ranked.sort_values(["order", "score", "number"]).drop(columns=["order", "score"])


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


def _mixture(run: Run) -> list[Html]:
    if run.best is None:
        return [_note("The search has not chosen one: best_mixture.json has not been written.")]
    best = run.best
    confirmed = best.get("confirmed", [])
    names = [name for name in HEADLINE_METRICS if any(name in repeat["metrics"] for repeat in confirmed)]
    right = [
        element("h3", f"Parameters of trial {best['trial']}"),
        table(
            ["Parameter", "Value"],
            [[name, _value(value)] for name, value in best.get("parameters", {}).items()]
            + ([["data fraction", _value(best["fraction"])]] if "fraction" in best else []),
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
        *(element("p", sentence) for sentence in _choice_sentences(run, best)),
    ]
    if confirmed:
        rows = [[repeat["seed"], *(_number(repeat["metrics"].get(name)) for name in names)] for repeat in confirmed]
        values = {
            name: [repeat["metrics"][name] for repeat in confirmed if name in repeat["metrics"]] for name in names
        }
        rows.append(["range", *(f"{_number(min(values[n]))} to {_number(max(values[n]))}" for n in names)])
        headers = ["Seed", *(frame.metric(name).label for name in names)]
        parts += [
            element("h3", "Trained again with other seeds"),
            table(headers, rows, numbers=range(1, len(headers))),
        ]
    else:
        parts.append(_note("It was not trained again with other seeds, so its spread between seeds is not known."))
    return parts


def _choice_sentences(run: Run, best: dict[str, Any]) -> list[str]:
    """How sure the choice is: which trials are as good within their intervals, and which scored higher yet lost."""
    others = [str(name) for name in best.get("candidates", []) if name != best["trial"]]
    sentences = ["No other trial's score interval overlaps that of the best."]
    if others:
        sentences = [
            f"Best is a set: the score intervals of {', '.join(others)} overlap that of {best['trial']}, so this "
            "evaluation does not tell them apart."
        ]
    rivals = run.trials[(run.trials["state"] == "complete") & ~run.trials["kind"].isin(["confirm", "ablation"])]
    score = float(rivals.set_index("trial")["metrics.score"].get(best["trial"], float("nan")))
    higher = rivals[rivals["metrics.score"] > score]["trial"]
    if len(higher):
        sentences.append(
            f"Not chosen although the score is higher: {', '.join(higher)} (see the recipe's constraints)."
        )
    return sentences


def _losses(run: Run) -> list[Html]:
    if run.curves.empty:
        return [_note("No trial has written a curve.")]
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
        _note(
            f"{thick}Cross-entropy per supervised token. Training losses are running means over a fifteenth of the "
            f"steps; a start far above the rest leaves the panel.{explicit}"
        ),
    ]


def _parameters(run: Run, importances: dict[str, float], basis: str) -> list[Html]:
    parts = [_note(basis)]
    if importances:
        few = " With this few trials the order is a hint, not a finding." if _is_few(run, importances) else ""
        drawn = figure(plots.importances(importances), "Parameter importances")
        parts = [element("div", drawn, _note(basis + few), class_="pair")]
    panels = plots.parameter_scores(run.trials, str(run.best["trial"]) if run.best else None)
    if not panels:
        return [*parts, _note("No parameter took more than one value among scored trials.")]
    kinds = [kind for kind in frame.KINDS if kind in set(run.trials["kind"].dropna())]
    entries = [(plots.KIND_SIGNS[kind], "orange" if kind in frame.NAMED_MIXES else "blue", kind) for kind in kinds]
    return [
        *parts,
        element("h3", "Score against each parameter"),
        legend([*entries, ("○", "muted", "hollow: not complete"), ("◯", "ink", "ringed: the best")]),
        element("div", *(figure(svg, f"Score against {name}") for name, svg in panels.items()), class_="panels"),
        _note("Grey bars are 95 % intervals. The parameters vary together: a slope here is no effect of one alone."),
    ]


def _is_few(run: Run, importances: dict[str, float]) -> bool:
    """Fewer than ten complete trials per parameter: the usual rule of thumb for a regression's slopes."""
    return int((run.trials["state"] == "complete").sum()) < 10 * len(importances)


def _times(run: Run) -> list[Html]:
    timed = plots.time_table(run.trials)
    if timed.empty:
        return [_note("No trial has recorded its time.")]
    sums = timed.sum()
    phases = [phase for phase in plots.TIME_HUES if sums[phase] > 0]
    entries = [("■", plots.TIME_HUES[phase], phase) for phase in phases]
    shown = min(len(timed), plots.MAX_TIME_ROWS)
    caption = f"The {shown} longest of {len(timed)} timed trials. The table counts all of them."
    rows = [[phase, _duration(sums[phase]), f"{sums[phase] / sums['total']:.1%}"] for phase in (*phases, "total")]
    drawn = figure(plots.times(run.trials), "Time of each trial by phase", caption)
    return [
        legend(entries),
        element("div", drawn, table(["Phase", "All trials", "Share"], rows, numbers=(1, 2)), class_="pair"),
    ]


def _replies(run: Run) -> list[Html]:
    models = [name for name in ("base", "best") if name in run.evaluations]
    examples: dict[str, dict[str, dict[str, Any]]] = {}
    for model in models:
        for example in run.evaluations[model]["examples"]:
            examples.setdefault(str(example["id"]), {})[model] = example
    cases: dict[str, list[dict[str, dict[str, Any]]]] = {}
    for replies in examples.values():
        cases.setdefault(str(next(iter(replies.values()))["case"]), []).append(replies)
    if not cases:
        return [_note("No example reply has been written.")]
    parts = [_note(f"The first {EXAMPLES_PER_CASE} of each case in file order, not chosen by how they turned out.")]
    for case, items in cases.items():
        parts.append(element("h3", case))
        parts += [_example(replies, models) for replies in items[:EXAMPLES_PER_CASE]]
    return parts


def _example(replies: dict[str, dict[str, Any]], models: Sequence[str]) -> Html:
    query = str(next(iter(replies.values()))["query"])
    columns = []
    for model in models:
        if model in replies:
            scores = ", ".join(f"{name} {_value(value)}" for name, value in replies[model].get("scores", {}).items())
            shown = [element("pre", replies[model]["reply"]), element("small", scores)]
        else:
            shown = [_note("This item is not among the written examples of this model.")]
        columns.append(element("div", element("span", model, class_="tag"), *shown))
    return element(
        "div", element("div", query, class_="query"), element("div", *columns, class_="replies"), class_="example"
    )


def _corpus(run: Run) -> list[Html]:
    corpus = run.sweep.get("corpus", {})
    rows = corpus.get("table", [])
    if not rows:
        return [_note("sweep.json holds no corpus table.")]
    supervised = sum(row["supervised_tokens"] for row in rows)
    cells = [
        [
            *(row[key] for key in ("component", "form", "case")),
            *(_count(row[key]) for key in ("samples", "tokens", "supervised_tokens")),
            f"{row['supervised_tokens'] / max(supervised, 1):.1%}",
        ]
        for row in rows
    ]
    # Only supervised tokens add up: one sample can carry several components.
    cells.append(["all", "", "", "", "", _count(supervised), "100.0%"])
    headers = ["Component", "Form", "Case", "Samples", "Tokens", "Supervised tokens", "Share"]
    counts = corpus.get("counts", {})
    parts = [table(headers, cells, numbers=range(3, 7))]
    reasons = [
        [what, reason, _count(count)]
        for what in ("dropped", "quarantined")
        for reason, count in sorted(counts.get(what, {}).items(), key=lambda pair: -pair[1])
    ]
    if "kept" in counts:
        reasons.insert(0, ["kept", "", _count(counts["kept"])])
    if reasons:
        parts += [
            element("h3", "What was kept and why the rest was not"),
            table(["", "Reason", "Records"], reasons, [2]),
        ]
    return parts


def _reproduce(run: Run) -> list[Html]:
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
        element("div", element("h3", name), table([], [[key, _value(value)] for key, value in values.items()]))
        for name, values in blocks
        if values
    ]
    recipe = json.dumps(sweep.get("recipe", {}), indent=2, ensure_ascii=False)
    return [
        element("pre", sweep["command"]),
        element("div", *lists, class_="panels"),
        element("details", element("summary", "Recipe"), element("pre", recipe)),
    ]


def _markdown(run: Run) -> str:
    lines = [f"# Mixture search: {_plain(run.sweep['name'])}", "", _plain(headline(run).sentence), ""]
    lines += [f"- {_plain(sentence)}" for sentence in _done_sentences(run)]
    if run.evaluations:
        lines += ["", "## Base against best", "", *_markdown_table(*_metric_rows(run))]
        headers, cases = _case_rows(run)
        if cases:
            lines += ["", *_markdown_table(headers, cases)]
    rows = [
        [
            row["trial"],
            row["kind"] if isinstance(row["kind"], str) else "–",
            row["state"],
            _score(row),
            _count(row.get("supervised_tokens")),
            row["error"] if isinstance(row["error"], str) else "",
        ]
        for _, row in _ranked(run).iterrows()
    ]
    headers = ["Trial", "Kind", "State", "Score", "Supervised tokens", "Error"]
    lines += ["", "## Trials", "", *_markdown_table(headers, rows)]
    if run.best:
        best = run.best
        shares = [
            [name, f"{share:.1%}", f"{best['realised'].get(name, 0.0):.1%}"] for name, share in best["weights"].items()
        ]
        lines += ["", f"## The best mixture: trial {_plain(best['trial'])}", ""]
        lines += [
            *_markdown_table(["Component", "Asked", "Realised"], shares),
            "",
            *map(_plain, _choice_sentences(run, best)),
        ]
    lines += ["", "## Reproduce", "", *(f"    {line}" for line in str(run.sweep["command"]).splitlines()), ""]
    return "\n".join(lines)


def _markdown_table(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [list(headers), ["---"] * len(headers), *rows]
    return [f"| {' | '.join(_plain(cell) for cell in line)} |" for line in lines]


def _plain(value: object) -> str:
    """Text that Markdown neither runs nor breaks a table on."""
    flat = " ".join(str(value).split())
    for mark in ("\\", "|", "<", "`", "*", "[", "]"):
        flat = flat.replace(mark, f"\\{mark}")
    return flat


def _components(run: Run) -> list[str]:
    found = [str(column).removeprefix("realised.") for column in run.trials if str(column).startswith("realised.")]
    return sorted(found, key=lambda name: (list(HUES).index(name) if name in HUES else len(HUES), name))


def _hue(component: str) -> str:
    return HUES.get(component, "muted")


def _model_label(run: Run, model: str) -> str:
    described = run.evaluations[model].get("model")
    return f"{model} ({described})" if isinstance(described, str) and described != model else model


def _score(row: pd.Series) -> str:
    bounds = frame.interval(row, "score")
    score = _number(frame.part(row, "metrics").get("score"))
    return f"{score} {_bounds({'low': bounds[0], 'high': bounds[1]})}" if bounds else score


def _estimate(estimate: dict[str, Any]) -> str:
    return f"{_number(estimate['value'])} {_bounds(estimate)}"


def _bounds(estimate: dict[str, Any]) -> str:
    # A no-break space: a narrow column may break between a value and its interval, never inside it.
    return f"[{_number(estimate['low'])},\u00a0{_number(estimate['high'])}]"


def _number(value: Any, form: str = "{:.3f}") -> str:
    return "–" if value is None or pd.isna(value) else form.format(value)


def _count(value: Any) -> str:
    return "–" if value is None or pd.isna(value) else f"{int(value):,}"


def _value(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: Any) -> str:
    if seconds is None or pd.isna(seconds):
        return "–"
    if seconds < 120:
        return f"{seconds:.0f}\u00a0s"
    return f"{seconds / 60:.0f}\u00a0min" if seconds < 7200 else f"{seconds / 3600:.1f}\u00a0h"


def _note(sentence: str) -> Html:
    return element("p", sentence, class_="note")
