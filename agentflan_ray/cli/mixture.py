"""Flags that say which part of a corpus is read, and in what shares: of the commands ``plan`` and ``train``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from agentflan_ray.mixture import Index, Plan


def add_mixture_flags(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """Shares, budget, fraction and repetition."""
    parser.add_argument(
        "--weights",
        action="append",
        required=required,
        help="shares of supervised tokens: reasoning=0.4,general=0.6; or temperature=2: the corpus's own shares to the "
        "power of 1/2; or drop: the paper's way, reasoning : retrieval : understanding = 1 : 0.25 : 0.75 by leaving "
        "text out. Several times with a part of the budget before each, for phases: 0.7:reasoning=1 0.3:general=1",
    )
    parser.add_argument("--budget", type=int, help="tokens to read at fraction 1 (not for drop)")
    parser.add_argument("--fraction", type=float, default=1.0, help="part of the data and of the budget")
    parser.add_argument("--max-repeats", type=int, default=4, help="how often a sample is read at most")
    parser.add_argument("--cap", action="store_true", help="where a share can't be met, read fewer tokens")


def planner(arguments: argparse.Namespace) -> Callable[[Index], Plan]:
    """What the flags ask of an index, all that can be checked without one checked already."""
    from agentflan_ray.corpus.recipe import AGENT_FLAN_RATIOS
    from agentflan_ray.mixture import Phase, Schedule, drop_plan, make_plan, temperature_weights

    texts: list[str] = arguments.weights
    if texts == ["drop"]:
        if arguments.budget is not None:
            raise ValueError("--weights drop leaves text out instead of filling a budget; leave --budget out too.")
        return lambda index: drop_plan(index, AGENT_FLAN_RATIOS, arguments.fraction)
    if arguments.budget is None:
        raise ValueError("Give the number of tokens to read at fraction 1: --budget 100000.")

    def schedule(phases: tuple[Phase, ...]) -> Schedule:
        short: Literal["cap", "fail"] = "cap" if arguments.cap else "fail"
        return Schedule(phases, arguments.budget, arguments.fraction, arguments.max_repeats, short)

    if len(texts) == 1 and texts[0].startswith("temperature="):
        temperature = _number(texts[0].partition("=")[2], texts[0])
        schedule((Phase(1.0, {"general": 1.0}),))
        return lambda index: make_plan(index, schedule((Phase(1.0, temperature_weights(index, temperature)),)))
    phases = []
    for text in texts:
        share, colon, weights = text.rpartition(":")
        phases.append(Phase(_number(share, text) if colon else 1.0, _weights(weights)))
    asked = schedule(tuple(phases))
    return lambda index: make_plan(index, asked)


def _weights(text: str) -> dict[str, float]:
    pairs = [(name.strip(), value) for name, _, value in (each.partition("=") for each in text.split(","))]
    weights = {name: _number(value, text) for name, value in pairs}
    if len(weights) < len(pairs):
        raise ValueError(f"--weights {text!r} names a component twice; give each one weight.")
    return weights


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"--weights {text!r} is not of the form reasoning=0.4,general=0.6.") from None
