"""From weights, a token budget and a data fraction to an exact plan of rows.

Weights are shares of *supervised tokens*; the budget counts *all tokens* that training reads. A conversation carries
several capabilities, so a plan row is (sample, which of its components are learnt): one forward pass serves them all,
where one sample per capability would read the same context three times for the same gradient.

Samples stand in the order of a stable hash of their trajectory's id. A component's share is met by a prefix of that
order, so a larger budget adds rows to a smaller one's, and a fraction keeps the trajectories whose hash lies below it:
25 % lies inside 50 % inside 100 % on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """What to train on. ``budget`` is the number of tokens at fraction 1; a fraction takes that part of it."""

    weights: Mapping[str, float]
    budget: int
    fraction: float = 1.0
    max_repeats: int = 4
    """How often a sample may be read at most (the repetition cap)."""
    when_short: Literal["fail", "cap"] = "fail"
    """Where a share can't be met within the cap: refuse, or keep the shares and read fewer tokens."""

    def __post_init__(self) -> None:
        unknown = set(self.weights) - set(COMPONENTS)
        if unknown:
            raise ValueError(
                f"Unknown component {sorted(unknown)[0]!r} in the mixture; there are {', '.join(COMPONENTS)}."
            )
        if any(weight < 0 or not np.isfinite(weight) for weight in self.weights.values()):
            raise ValueError(f"Mixture weights must be finite and not negative, but are {dict(self.weights)}.")
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"Mixture weights must sum to 1, but {dict(self.weights)} sum to {total:.6f}.")
        if not 0 < self.fraction <= 1:
            raise ValueError(f"The data fraction is {self.fraction}, but must lie in (0, 1].")
        if self.budget < 1 or self.max_repeats < 1:
            raise ValueError(f"Budget ({self.budget}) and max_repeats ({self.max_repeats}) must be at least 1.")


@dataclass(frozen=True)
class Index:
    """The samples that may be drawn, sorted by ``key`` (then id).

    ``keys``: (n,) stable hashes of the trajectory ids in [0, 2**63). ``num_tokens``: (n,). ``supervised``:
    (n, len(COMPONENTS)) supervised tokens by component.
    """

    keys: Ints
    num_tokens: Ints
    supervised: Ints


@dataclass(frozen=True)
class Plan:
    """Rows of the index to read, each with a bit mask of the components that are learnt in it.

    A row that is read twice stands twice. ``asked`` and ``realised`` are shares of supervised tokens.
    """

    rows: Ints
    masks: npt.NDArray[np.uint8]
    asked: dict[str, float]
    realised: dict[str, float]
    num_tokens: int
    num_supervised: int
    repeats: dict[str, float]
    """How often each component's supervised tokens are read, on average over those available."""


def proportional_weights(index: Index) -> dict[str, float]:
    """The shares that the corpus itself has."""
    return _shares(index.supervised.sum(axis=0))


def make_plan(index: Index, mixture: Mixture) -> Plan:
    """Choose rows so that the shares are met and at most ``budget * fraction`` tokens are read.

    Raises ``ValueError`` where a weighted component has no text, or where a share can't be met within the repetition
    cap and ``when_short`` says fail.
    """
    # Compared as floats, 2**63 * fraction is exact for the fractions in use; the key of 2**63 itself does not occur.
    eligible = np.flatnonzero(index.keys < mixture.fraction * float(2**63))
    supervised = index.supervised[eligible]
    num_tokens = index.num_tokens[eligible]
    available = supervised.sum(axis=0)
    weights = np.array([mixture.weights.get(name, 0.0) for name in COMPONENTS])
    for name, weight, tokens in zip(COMPONENTS, weights, available, strict=True):
        if weight > 0 and tokens == 0:
            raise ValueError(
                f"The mixture asks for {weight:.1%} {name}, but the corpus holds no supervised {name} token at "
                f"fraction {mixture.fraction}; add a source that does or give {name} the weight 0."
            )
    budget = int(mixture.budget * mixture.fraction)
    with np.errstate(divide="ignore"):
        limits = np.where(weights > 0, mixture.max_repeats * available / np.maximum(weights, 1e-300), np.inf)
    most = float(limits.min())
    masks = _masks(supervised, weights * most, mixture.max_repeats)
    if (masks > 0).sum(axis=0) @ num_tokens <= budget:
        scarce = COMPONENTS[int(limits.argmin())]
        total = int((masks > 0).sum(axis=0) @ num_tokens)
        if mixture.when_short == "fail":
            raise ValueError(
                f"The budget of {budget:,} tokens can't be filled: {mixture.weights[scarce]:.1%} {scarce} with at most "
                f"{mixture.max_repeats} repeats of the {int(available[limits.argmin()]):,} supervised tokens available "
                f"lasts for {total:,} tokens. Add data, lower the budget or that weight, or allow more repeats."
            )
    else:
        low, high = 0.0, most
        for _ in range(48):
            middle = (low + high) / 2
            masks = _masks(supervised, weights * middle, mixture.max_repeats)
            low, high = (middle, high) if (masks > 0).sum(axis=0) @ num_tokens <= budget else (low, middle)
        masks = _masks(supervised, weights * low, mixture.max_repeats)
    passes, rows = np.nonzero(masks)
    if len(rows) == 0:
        raise ValueError(f"The budget of {budget:,} tokens is too small for a single sample of this mixture.")
    learnt = _unpack(masks[passes, rows]) * supervised[rows]
    counts = learnt.sum(axis=0)
    return Plan(
        rows=eligible[rows],
        masks=masks[passes, rows],
        asked={name: float(weight) for name, weight in zip(COMPONENTS, weights, strict=True)},
        realised=_shares(counts),
        num_tokens=int(num_tokens[rows].sum()),
        num_supervised=int(counts.sum()),
        repeats={name: float(counts[i] / max(1, available[i])) for i, name in enumerate(COMPONENTS)},
    )


def _masks(supervised: Ints, wanted: npt.NDArray[np.float64], max_repeats: int) -> npt.NDArray[np.uint8]:
    """(passes, n) bit masks: component i is learnt in the rows that its first ``wanted[i]`` tokens cover."""
    masks = np.zeros((max_repeats, len(supervised)), dtype=np.uint8)
    for component, target in enumerate(wanted):
        column = supervised[:, component]
        holders = np.flatnonzero(column)
        if target <= 0 or len(holders) == 0:
            continue
        running = np.cumsum(column[holders])
        full, rest = divmod(target, float(running[-1]))
        for repeat in range(min(int(full), max_repeats)):
            masks[repeat, holders] |= np.uint8(1 << component)
        if full < max_repeats:
            # The row that crosses the target is taken where that leaves the smaller error.
            last = int(np.searchsorted(running, rest))
            before = running[last - 1] if last else 0
            num = last + int(last < len(running) and running[last] - rest < rest - before)
            if full == 0:
                # However small its share, what was asked for is not left out.
                num = max(num, 1)
            masks[int(full), holders[:num]] |= np.uint8(1 << component)
    return masks


def _unpack(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray((masks[:, None] >> np.arange(len(COMPONENTS))) & 1, dtype=np.bool_)


def _shares(counts: Ints) -> dict[str, float]:
    total = max(1, int(counts.sum()))
    return {name: float(count) / total for name, count in zip(COMPONENTS, counts, strict=True)}
