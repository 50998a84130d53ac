"""From weights, a token budget and a data fraction to an exact plan of rows.

Weights are shares of *supervised tokens*; the budget counts *all tokens* that training reads. A conversation carries
several capabilities, so a plan row is (sample, which of its components are learnt): one forward pass serves them all,
where one sample per capability would read the same context three times for the same gradient.

Samples stand in the order of a stable hash of their trajectory's id. A component's share is met by a prefix of that
order, so a larger budget adds rows to a smaller one's, and a fraction keeps the trajectories whose hash lies below it:
25 % lies inside 50 % inside 100 % on every machine. In a schedule each phase goes on where the one before stopped, so
no token of a component is learnt a second time before all were learnt once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import COMPONENTS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Phase:
    """A stretch of training with weights of its own; ``share`` is its part of the budget."""

    share: float
    weights: Mapping[str, float]

    def __post_init__(self) -> None:
        _check_names(self.weights, "mixture")
        if any(weight < 0 or not np.isfinite(weight) for weight in self.weights.values()):
            raise ValueError(f"Mixture weights must be finite and not negative, but are {dict(self.weights)}.")
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"Mixture weights must sum to 1, but {dict(self.weights)} sum to {total:.6f}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"The share of a phase is {self.share}, but must lie in (0, 1].")


@dataclass(frozen=True)
class Schedule:
    """What to train on, phase after phase. ``budget`` is the number of tokens at fraction 1; a fraction takes that
    part of it."""

    phases: tuple[Phase, ...]
    budget: int
    fraction: float = 1.0
    max_repeats: int = 4
    """How often a component of a sample is learnt at most, all phases together (the repetition cap)."""
    when_short: Literal["fail", "cap"] = "fail"
    """Where a share can't be met within the cap: refuse, or keep the shares and read fewer tokens."""

    def __post_init__(self) -> None:
        total = sum(phase.share for phase in self.phases)
        if abs(total - 1) > 1e-6:
            raise ValueError(
                f"The phases' shares must sum to 1, but {[phase.share for phase in self.phases]} sum to {total:.6f}."
            )
        if not 0 < self.fraction <= 1:
            raise ValueError(f"The data fraction is {self.fraction}, but must lie in (0, 1].")
        if self.budget < 1 or self.max_repeats < 1:
            raise ValueError(f"Budget ({self.budget}) and max_repeats ({self.max_repeats}) must be at least 1.")


@dataclass(frozen=True)
class Mixture:
    """A :class:`Schedule` of one phase: the same weights from the first step to the last."""

    weights: Mapping[str, float]
    budget: int
    fraction: float = 1.0
    max_repeats: int = 4
    when_short: Literal["fail", "cap"] = "fail"

    def __post_init__(self) -> None:
        assert self.schedule  # its own checks are this one's

    @property
    def schedule(self) -> Schedule:
        """The same as a schedule."""
        return Schedule((Phase(1.0, self.weights),), self.budget, self.fraction, self.max_repeats, self.when_short)


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
class Shares:
    """What a phase asked for and what came out: shares of supervised tokens, and numbers of tokens."""

    asked: dict[str, float]
    realised: dict[str, float]
    num_tokens: int
    num_supervised: int


@dataclass(frozen=True)
class Plan:
    """Rows of the index to read, each with a bit mask of the components that are learnt in it, and its phase.

    A row that is read twice stands twice. ``asked`` and ``realised`` are shares of supervised tokens; of several
    phases ``asked`` is the mean, weighted by the supervised tokens of each.
    """

    rows: Ints
    masks: npt.NDArray[np.uint8]
    phases: npt.NDArray[np.int8]
    asked: dict[str, float]
    realised: dict[str, float]
    num_tokens: int
    num_supervised: int
    repeats: dict[str, float]
    """How often each component's supervised tokens are read, on average over those available."""
    unread: dict[str, int]
    """Supervised tokens of each component that are available but not learnt at all."""
    by_phase: tuple[Shares, ...]


def proportional_weights(index: Index) -> dict[str, float]:
    """The shares that the corpus itself has."""
    return _shares(index.supervised.sum(axis=0))


def temperature_weights(index: Index, temperature: float) -> dict[str, float]:
    """Shares in proportion to ``available ** (1 / temperature)``: 1 is proportional, infinity uniform over what there
    is (temperature sampling, as multilingual models balance languages: Arivazhagan et al. 2019, section 4.2)."""
    if not temperature > 0:
        raise ValueError(f"The temperature is {temperature}, but must be above 0.")
    shares = np.array(list(proportional_weights(index).values()))
    # Relative to the largest share, so that no power of a small temperature is rounded to zero everywhere.
    scaled = np.where(shares > 0, (shares / max(shares.max(), 1e-300)) ** (1 / temperature), 0.0)
    return {name: float(value) for name, value in zip(COMPONENTS, scaled / max(scaled.sum(), 1e-300), strict=True)}


def make_plan(index: Index, mixture: Mixture | Schedule) -> Plan:
    """Choose rows so that the shares of each phase are met and at most ``budget * fraction`` tokens are read.

    Raises ``ValueError`` where a weighted component has no text, or where a share can't be met within the repetition
    cap and ``when_short`` says fail.
    """
    schedule = mixture.schedule if isinstance(mixture, Mixture) else mixture
    eligible = _eligible(index, schedule.fraction)
    supply = _Supply(index.num_tokens[eligible], index.supervised[eligible], schedule.max_repeats)
    parts: list[tuple[Ints, npt.NDArray[np.uint8], Shares]] = []
    allowed = used = 0
    for number, phase in enumerate(schedule.phases):
        weights = np.array([phase.weights.get(name, 0.0) for name in COMPONENTS])
        where = "" if len(schedule.phases) == 1 else f" of phase {number + 1}"
        _check_supply(supply, weights, schedule.fraction, where)
        share = sum(each.share for each in schedule.phases[: number + 1])
        allowed = int(schedule.budget * schedule.fraction * min(1.0, share + 1e-9))
        rows, masks = supply.take(weights, allowed - used, schedule.when_short == "fail", where)
        if len(rows) == 0 and schedule.when_short == "fail":
            raise ValueError(
                f"The budget{where} of {allowed - used:,} tokens is too small for a single sample of this mixture."
            )
        counts = (_unpack(masks) * supply.supervised[rows]).sum(axis=0)
        asked = {name: float(weight) for name, weight in zip(COMPONENTS, weights, strict=True)}
        read = int(supply.num_tokens[rows].sum())
        parts.append((rows, masks, Shares(asked, _shares(counts), read, int(counts.sum()))))
        used += read
    if not used:
        raise ValueError(f"The budget of {allowed:,} tokens is too small for a single sample of this mixture.")
    return _plan(eligible, supply, parts)


def drop_plan(index: Index, ratios: Mapping[str, float], fraction: float = 1.0) -> Plan:
    """The paper's own way to balance (Agent-FLAN, section 3.3): keep a part of each component and drop the rest.

    Of each component that has a ratio, the part ``ratio / largest ratio`` of its supervised tokens is learnt, by a
    prefix of the stable order; the others are learnt whole. There is no budget: what is dropped is not made up for, so
    the amount of training changes with the ratios. Samples in which nothing is left to learn are not read. Whether the
    paper drops samples, turns or only their loss is not published; here the loss.
    """
    _check_names(ratios, "ratios")
    if not ratios or min(ratios.values()) < 0 or not 0 < max(ratios.values()) < np.inf:
        raise ValueError(f"Ratios must be finite, not negative, and one of them above 0, but are {dict(ratios)}.")
    if not 0 < fraction <= 1:
        raise ValueError(f"The data fraction is {fraction}, but must lie in (0, 1].")
    eligible = _eligible(index, fraction)
    supply = _Supply(index.num_tokens[eligible], index.supervised[eligible], max_repeats=1)
    kept = np.array([ratios.get(name, max(ratios.values())) for name in COMPONENTS]) / max(ratios.values())
    wanted = kept * supply.available
    if not wanted.any():
        raise ValueError(f"The ratios {dict(ratios)} keep no supervised token of this corpus.")
    rows, masks = supply.take_tokens(wanted)
    counts = (_unpack(masks) * supply.supervised[rows]).sum(axis=0)
    asked = {name: float(value) for name, value in zip(COMPONENTS, wanted / wanted.sum(), strict=True)}
    shares = Shares(asked, _shares(counts), int(supply.num_tokens[rows].sum()), int(counts.sum()))
    return _plan(eligible, supply, [(rows, masks, shares)])


class _Supply:
    """The eligible samples in stable order, and how far each component has been read.

    Position k of component i is its ``k % holders``-th sample that holds i, read for the ``k // holders``-th time.
    """

    def __init__(self, num_tokens: Ints, supervised: Ints, max_repeats: int) -> None:
        self.num_tokens = num_tokens
        self.supervised = supervised
        self.available = supervised.sum(axis=0)
        self.max_repeats = max_repeats
        self._holders = [np.flatnonzero(column) for column in supervised.T]
        self._running = [np.cumsum(c[h]) for c, h in zip(supervised.T, self._holders, strict=True)]
        self._positions = [0] * len(COMPONENTS)

    def left(self) -> Floats:
        """Supervised tokens that may still be learnt, by component."""
        read = np.array([self._tokens_at(i) for i in range(len(COMPONENTS))])
        return np.asarray(self.max_repeats * self.available - read, dtype=np.float64)

    def take(self, weights: Floats, budget: int, refuse_short: bool, where: str) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """The next samples that meet the weights within the budget, and what is learnt in each.

        With x supervised tokens in all, component i is read up to its position nearest to ``weights[i] * x`` tokens
        on. So each (sample, repeat) is read from a certain x on; in the order of these x as many are taken as the
        budget holds. However small its share, no component that is asked for is left out.
        """
        with np.errstate(divide="ignore"):
            limits = np.where(weights > 0, self.left() / np.maximum(weights, 1e-300), np.inf)
        scarce = int(limits.argmin())
        # What is learnt is read, so x can't pass the budget by more than half a sample of each component.
        most = min(float(limits[scarce]), budget + len(COMPONENTS) / 2 * float(self.num_tokens.max(initial=0)) + 1)
        begins = [self._thresholds(i, weights[i], most) if weights[i] > 0 else np.zeros(0) for i in range(len(weights))]
        earliest = np.full((self.max_repeats, len(self.num_tokens)), np.inf)
        for i, thresholds in enumerate(begins):
            repeats, rows = self._places(i, len(thresholds))
            earliest[repeats, rows] = np.minimum(earliest[repeats, rows], thresholds)
        flat = earliest.ravel()
        order = np.flatnonzero(flat < np.inf)
        order = order[np.argsort(flat[order], kind="stable")]
        total = np.cumsum(self.num_tokens[order % len(self.num_tokens)])
        num = int(np.searchsorted(total, budget, side="right"))
        if num == len(order):
            if refuse_short:
                raise ValueError(
                    f"The budget{where} of {budget:,} tokens can't be filled: {weights[scarce]:.1%} "
                    f"{COMPONENTS[scarce]} with at most {self.max_repeats} repeats of the "
                    f"{int(self.available[scarce]):,} supervised tokens available lasts for "
                    f"{int(total[-1]) if len(total) else 0:,} tokens. Add data, lower the budget or that weight, or "
                    "allow more repeats."
                )
            stop = np.inf
        else:
            stop = flat[order[num]]
        return self._read([int(np.searchsorted(thresholds, stop, side="left")) for thresholds in begins])

    def take_tokens(self, wanted: Floats) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """The samples up to the position of each component that is nearest to so many supervised tokens."""
        return self._read([len(self._thresholds(i, 1.0, number)) if number else 0 for i, number in enumerate(wanted)])

    def _read(self, nums: list[int]) -> tuple[Ints, npt.NDArray[np.uint8]]:
        """Go on by so many samples of each component; rows by repeat and stable order, and their masks."""
        masks = np.zeros((self.max_repeats, len(self.num_tokens)), dtype=np.uint8)
        for i, num in enumerate(nums):
            repeats, rows = self._places(i, num)
            masks[repeats, rows] |= np.uint8(1 << i)
            self._positions[i] += num
        repeats, rows = np.nonzero(masks)
        return rows, masks[repeats, rows]

    def _places(self, component: int, num: int) -> tuple[Ints, Ints]:
        """Repeat and row of the next positions of a component."""
        holders = self._holders[component]
        positions = np.arange(self._positions[component], self._positions[component] + num)
        repeats, places = np.divmod(positions, max(1, len(holders)))
        return repeats, holders[places]

    def _thresholds(self, component: int, weight: float, most: float) -> Floats:
        """From how many supervised tokens of all components on each next sample of one is read, ascending to ``most``.

        A sample counts as read from the middle of its own tokens on, which leaves the smaller error; the first one
        from the first token on.
        """
        available, start = float(self.available[component]), self._positions[component]
        before = self._tokens_at(component)
        repeats = min(self.max_repeats, int((before + weight * most) // available) + 1)
        middles = self._running[component] - self.supervised[self._holders[component], component] / 2
        in_order = (np.arange(repeats)[:, None] * available + middles).ravel()[start:]
        thresholds = (in_order - before) / weight
        thresholds[:1] = 0.0
        return np.asarray(thresholds[: np.searchsorted(thresholds, most, side="right")], dtype=np.float64)

    def _tokens_at(self, component: int) -> int:
        repeat, place = divmod(self._positions[component], max(1, len(self._holders[component])))
        before = int(self._running[component][place - 1]) if place else 0
        return repeat * int(self.available[component]) + before


def _check_names(weights: Mapping[str, float], what: str) -> None:
    unknown = set(weights) - set(COMPONENTS)
    if unknown:
        raise ValueError(f"Unknown component {sorted(unknown)[0]!r} in the {what}; there are {', '.join(COMPONENTS)}.")


def _check_supply(supply: _Supply, weights: Floats, fraction: float, where: str) -> None:
    for name, weight, tokens, left in zip(COMPONENTS, weights, supply.available, supply.left(), strict=True):
        if weight > 0 and tokens == 0:
            raise ValueError(
                f"The mixture{where} asks for {weight:.1%} {name}, but the corpus holds no supervised {name} token at "
                f"fraction {fraction}; add a source that does or give {name} the weight 0."
            )
        if weight > 0 and left == 0:
            raise ValueError(
                f"The mixture{where} asks for {weight:.1%} {name}, but the phases before it have read its {tokens:,} "
                f"supervised tokens {supply.max_repeats} times already; add data, lower the budget, or allow more "
                "repeats."
            )


def _eligible(index: Index, fraction: float) -> Ints:
    # Compared as floats, 2**63 * fraction is exact for the fractions in use; the key of 2**63 itself does not occur.
    return np.flatnonzero(index.keys < fraction * float(2**63))


def _plan(eligible: Ints, supply: _Supply, parts: list[tuple[Ints, npt.NDArray[np.uint8], Shares]]) -> Plan:
    rows = np.concatenate([rows for rows, _, _ in parts])
    masks = np.concatenate([masks for _, masks, _ in parts])
    phases = np.concatenate([np.full(len(each[0]), number, dtype=np.int8) for number, each in enumerate(parts)])
    shares = tuple(each for _, _, each in parts)
    counts = (_unpack(masks) * supply.supervised[rows]).sum(axis=0)
    learnt = np.zeros(len(supply.num_tokens), dtype=np.uint8)
    np.bitwise_or.at(learnt, rows, masks)
    unread = supply.available - (_unpack(learnt) * supply.supervised).sum(axis=0)
    total = max(1, int(counts.sum()))
    return Plan(
        rows=eligible[rows],
        masks=masks,
        phases=phases,
        asked={name: sum(each.asked[name] * each.num_supervised for each in shares) / total for name in COMPONENTS},
        realised=_shares(counts),
        num_tokens=sum(each.num_tokens for each in shares),
        num_supervised=int(counts.sum()),
        repeats={name: float(counts[i] / max(1, supply.available[i])) for i, name in enumerate(COMPONENTS)},
        unread={name: int(unread[i]) for i, name in enumerate(COMPONENTS)},
        by_phase=shares,
    )


def _unpack(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    return np.asarray((masks[:, None] >> np.arange(len(COMPONENTS))) & 1, dtype=np.bool_)


def _shares(counts: Ints) -> dict[str, float]:
    total = max(1, int(counts.sum()))
    return {name: float(count) / total for name, count in zip(COMPONENTS, counts, strict=True)}
