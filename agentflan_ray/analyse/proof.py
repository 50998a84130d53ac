"""What the proof of a run found (``proof.json``, see :mod:`agentflan_ray.search.proof`), in sentences and rows."""

from __future__ import annotations

from typing import Any

from agentflan_ray.analyse import frame
from agentflan_ray.analyse.cells import estimate_cell, number, spread_cell
from agentflan_ray.analyse.findings import Finding


def mixes(proof: dict[str, Any]) -> Finding:
    """Each mix over its seeds, and which may be the best."""
    best = [str(each["mix"]) for each in proof["mixes"] if each["is_among_best"]]
    label = frame.metric(proof["metric"]).label
    sentences = [
        f"The winner of the search, {proof['winner']}, and the named mixes, each trained with {proof['num_seeds']} "
        f"seeds, on {proof['num_items']} items of {proof['num_groups']} groups that chose nothing. Intervals are of a "
        "bootstrap that draws groups of items and seeds; between seeds of one mix the "
        f"{label.lower()} varies with a standard deviation of {number(proof['seed_deviation'])}.",
        f"{best[0]} is the best mix: every other one is told from it."
        if len(best) == 1
        else f"Best is a set: {', '.join(best)} are not told apart.",
    ]
    rows = [
        [
            str(each["mix"]),
            estimate_cell(each),
            ", ".join(number(value) for value in each["by_seed"]),
            "yes" if each["is_among_best"] else "no",
        ]
        for each in proof["mixes"]
    ]
    return Finding(sentences, ["Mix", f"{label} [95 %]", "By seed", "Among the best"], rows)


def comparisons(proof: dict[str, Any]) -> Finding:
    """The winner against each other mix and the base model, and regrets."""
    of_winner, of_other = proof["regrets"]
    sentences = [
        "Differences are gains of the winner on the same items: above 0 it is better. p (Holm) counts all comparisons "
        "of mixes; below 0.05 a difference is told from 0.",
        f"Regret of the winner against the best named mix, {of_winner['instead_of']}: {_spread(of_winner)}; of "
        f"{of_other['mix']} against the winner: {_spread(of_other)}. Below 0 there is nothing to regret.",
    ]
    against = [*proof["comparisons"], *([proof["against_base"]] if proof.get("against_base") else [])]
    rows = [
        [
            str(each["theirs"]),
            _spread(each),
            number(each["p"], "{:.4f}"),
            "–" if each["theirs"] == "base" else number(each["p_holm"], "{:.4f}"),
        ]
        for each in against
    ]
    return Finding(sentences, [f"{proof['winner']} minus", "Difference [95 %]", "p", "p (Holm)"], rows)


def _spread(each: dict[str, Any]) -> str:
    return spread_cell((each["value"], each["low"], each["high"]), "{:+.3f}")
