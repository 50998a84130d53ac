"""From weights, a token budget and a data fraction to an exact plan of rows.

Weights are shares of *supervised tokens*; the budget counts *all tokens* that training reads. A conversation carries
several capabilities, so a plan row is (sample, which of its components are learnt): one forward pass serves them all,
where one sample per capability would read the same context three times for the same gradient.

Samples stand in the order of a stable hash of their trajectory's id. A component's share is met by a prefix of that
order, so a larger budget adds rows to a smaller one's, and a fraction keeps the trajectories whose hash lies below it:
25 % lies inside 50 % inside 100 % on every machine. In a schedule each phase goes on where the one before stopped, so
no token of a component is learnt a second time before all were learnt once.

A component may be divided further (:data:`PARTS`): the explicit formats by form, natural language into chat and chain
of thought, the negatives by case. A part is met as a component is, by a prefix of its own samples in the stable order.
Undivided, a component takes its samples as they come in that order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from agentflan_ray.sample import CASES, CHAT_FORMS, COMPONENTS, FORMS, NEGATIVE_CASES

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.uint8]

EXPLICIT_FORMS: tuple[str, ...] = tuple(form for form in FORMS if form not in CHAT_FORMS)
PARTS: dict[str, tuple[str, ...]] = {
    "reasoning": CHAT_FORMS,
    "retrieval": CHAT_FORMS,
    "understanding": CHAT_FORMS,
    "instruction": EXPLICIT_FORMS,
    "negative": NEGATIVE_CASES,
}
"""The forms or cases that a component may be divided by. General chat has one form only."""
_MAX_STRETCHES = 127
"""Phases times epochs; the number of a stretch is stored in a byte."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with weights of its own; ``share`` is its part of the budget."""

    share: float
    weights: Mapping[str, float]
    forms: Mapping[str, float] | None = None
    """Shares of the explicit forms within instruction following, of chat and cot within each of reasoning, retrieval
    and understanding, or of both: each group sums to 1, one that is not named stays undivided."""
    cases: Mapping[str, float] | None = None
    """Shares of the cases within the negatives."""
    fraction: float | None = None
    """Only this part of the trajectories, of those that the schedule's fraction leaves, may be read in this phase."""

    def __post_init__(self) -> None:
        _check_names(self.weights, "mixture")
        if any(weight < 0 or not np.isfinite(weight) for weight in self.weights.values()):
            raise ValueError(f"Mixture weights must be finite and not negative, but are {dict(self.weights)}.")
        total = sum(self.weights.values())
        if abs(total - 1) > 1e-6:
            raise ValueError(f"Mixture weights must sum to 1, but {dict(self.weights)} sum to {total:.6f}.")
        if not 0 < self.share <= 1:
            raise ValueError(f"The share of a phase is {self.share}, but must lie in (0, 1].")
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"The data fraction of a phase is {self.fraction}, but must lie in (0, 1].")
        _check_parts(self.forms, (EXPLICIT_FORMS, CHAT_FORMS), "form")
        _check_parts(self.cases, (NEGATIVE_CASES,), "case")

    def division(self, component: str) -> dict[str, float] | None:
        """Shares of a component's forms or cases, each of them named; None where it is not divided."""
        names = PARTS.get(component, ())
        shares = (self.cases if component == "negative" else self.forms) or {}
        return {name: float(shares.get(name, 0.0)) for name in names} if shares.keys() & set(names) else None


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
    epochs: int = 1
    """How often each phase is read, one pass after another, within the same budget: its unique part is so much smaller.
    The cap counts all passes."""

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
        if not 1 <= self.epochs <= self.max_repeats:
            raise ValueError(
                f"epochs is {self.epochs}, but must lie between 1 and max_repeats ({self.max_repeats}), "
                "which counts all passes; take fewer epochs or allow more repeats."
            )
        if len(self.phases) * self.epochs > _MAX_STRETCHES:
            raise ValueError(
                f"{len(self.phases)} phases of {self.epochs} epochs make {len(self.phases) * self.epochs} stretches of "
                f"training, but a plan has at most {_MAX_STRETCHES}; take fewer."
            )


@dataclass(frozen=True)
class Mixture:
    """A :class:`Schedule` of one phase: the same weights from the first step to the last."""

    weights: Mapping[str, float]
    budget: int
    fraction: float = 1.0
    max_repeats: int = 4
    when_short: Literal["fail", "cap"] = "fail"
    forms: Mapping[str, float] | None = None
    cases: Mapping[str, float] | None = None
    epochs: int = 1

    def __post_init__(self) -> None:
        assert self.schedule  # its own checks are this one's

    @property
    def schedule(self) -> Schedule:
        """The same as a schedule."""
        phase = Phase(1.0, self.weights, self.forms, self.cases)
        return Schedule((phase,), self.budget, self.fraction, self.max_repeats, self.when_short, self.epochs)


@dataclass(frozen=True)
class Index:
    """The samples that may be drawn, sorted by ``key`` (then id).

    ``keys``: (n,) stable hashes of the trajectory ids in [0, 2**63). ``num_tokens``: (n,). ``supervised``:
    (n, len(COMPONENTS)) supervised tokens by component. ``forms`` and ``cases``: (n,) numbers in
    :data:`~agentflan_ray.sample.FORMS` and :data:`~agentflan_ray.sample.CASES`.
    """

    keys: Ints
    num_tokens: Ints
    supervised: Ints
    forms: npt.NDArray[np.int8]
    cases: npt.NDArray[np.int8]


@dataclass(frozen=True)
class Shares:
    """What a phase asked for and what came out: shares of supervised tokens, and numbers of tokens."""

    asked: dict[str, float]
    realised: dict[str, float]
    num_tokens: int
    num_supervised: int
    asked_parts: dict[str, float]
    """By form or case as ``instruction/json`` or ``negative/near_miss``: shares of all supervised tokens, as those
    above. Empty where no component is divided."""
    realised_parts: dict[str, float]
    """All parts of all components; they sum to 1."""


@dataclass(frozen=True)
class Plan:
    """Rows of the index to read, each with a bit mask of the components that are learnt in it, and its phase.

    A row that is read twice stands twice. ``asked`` and ``realised`` are shares of supervised tokens; of several
    phases ``asked`` is the mean, weighted by the supervised tokens of each. Each pass of a phase that is read for
    several epochs counts as a phase here: pass e of phase p is number ``p * epochs + e``.
    """

    rows: Ints
    masks: Masks
    phases: npt.NDArray[np.int8]
    asked: dict[str, float]
    realised: dict[str, float]
    asked_parts: dict[str, float]
    """As in :class:`Shares`; of several phases those parts that all of them ask for."""
    realised_parts: dict[str, float]
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


def proportional_parts(index: Index) -> dict[str, float]:
    """The shares that the corpus itself has, by form or case where a component has several: ``instruction/json``,
    ``negative/near_miss``, ``general``. They sum to 1; of what the corpus does not hold the share is 0."""
    total = max(1, int(index.supervised.sum()))
    found: dict[str, float] = {}
    for component, counts in zip(COMPONENTS, index.supervised.T, strict=True):
        labels, names = (index.cases, CASES) if component == "negative" else (index.forms, FORMS)
        by_label = np.bincount(labels, weights=counts, minlength=len(names))
        parts = {f"{component}/{part}": by_label[names.index(part)] for part in PARTS.get(component, ())}
        found |= {name: float(count) / total for name, count in (parts or {component: counts.sum()}).items()}
    return found


def part_names(component: str) -> tuple[str, ...]:
    """The names of a component's parts, as ``negative/near_miss``; its own name where it has no parts."""
    return tuple(f"{component}/{part}" for part in PARTS.get(component, ())) or (component,)


def nested(mixture: Mixture, rungs: Sequence[float]) -> Schedule:
    """A mixture read in nested increments: one phase for each rung, which goes on from the one before.

    Phase k may read the part ``rungs[k]`` of the trajectories and takes the tokens up to that part of the budget: after
    it as much was read, in the same shares and of the same trajectories, as a trial at that fraction reads. The first
    rung's rows are the very rows of such a trial. Later phases read the trajectories that they add before what was
    left of the older ones, so that a sample is read at once for all that it teaches; what they read in all is then
    spread over the increments, where that trial reads a prefix of the stable order. The shares are of all that was read
    by a rung: what one phase has too much of by half a sample the next makes good. A component (or part of one) is
    learnt from no sample a second time before it was learnt from all that may be read once, and so on up to the cap: a
    scarce one is repeated as often at each rung as at the end. With several epochs every increment is read so often
    before the next.

    Args:
        mixture: What to read. Its fraction is the whole that the rungs are parts of.
        rungs: Ascending fractions; the last is 1.

    Raises:
        ValueError: The rungs do not ascend from above 0 to 1.
    """
    if not rungs or list(rungs) != sorted(set(rungs)) or rungs[0] <= 0 or rungs[-1] != 1:
        raise ValueError(f"Rungs must ascend from above 0 to 1, but are {tuple(rungs)}.")
    (whole,) = mixture.schedule.phases
    phases = tuple(replace(whole, share=rung - before, fraction=rung) for before, rung in pairwise((0.0, *rungs)))
    return replace(mixture.schedule, phases=phases)


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

    Raises ``ValueError`` where a weighted component, form or case has no text, or where a share can't be met within
    the repetition cap and ``when_short`` says fail.
    """
    schedule = mixture.schedule if isinstance(mixture, Mixture) else mixture
    epochs = schedule.epochs
    supply = _Supply(_eligible(index, schedule.fraction), schedule.max_repeats // epochs)
    parts: list[_Stretch] = []
    allowed = used = 0
    for number, phase in enumerate(schedule.phases):
        where = "" if len(schedule.phases) == 1 else f" of phase {number + 1}"
        columns = supply.columns(
            phase, schedule.fraction, goes_on=number > 0 and _one_line(schedule.phases[: number + 1])
        )
        _check_supply(columns, schedule, phase, where)
        share = sum(each.share for each in schedule.phases[: number + 1])
        allowed = int(schedule.budget * schedule.fraction * min(1.0, share + 1e-9))
        budget = (allowed - used) // epochs
        within = where if epochs == 1 else f" of each of the {epochs} epochs{where}"
        rows, masks = supply.take(columns, budget, schedule.when_short == "fail", within)
        if len(rows) == 0 and schedule.when_short == "fail":
            raise ValueError(
                f"The budget{within} of {budget:,} tokens is too small for a single sample of this mixture."
            )
        asked = {name: float(phase.weights.get(name, 0.0)) for name in COMPONENTS}
        divided = {column.name: column.weight for column in columns if column.part is not None}
        shares = supply.shares_of(rows, masks, asked, divided)
        parts += [(rows, masks, shares)] * epochs
        used += shares.num_tokens * epochs
    if not used:
        raise ValueError(f"The budget of {allowed:,} tokens is too small for a single sample of this mixture.")
    return _plan(supply, parts)


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
    supply = _Supply(_eligible(index, fraction), max_repeats=1)
    kept = np.array([ratios.get(name, max(ratios.values())) for name in COMPONENTS]) / max(ratios.values())
    wanted = kept * supply.available
    if not wanted.any():
        raise ValueError(f"The ratios {dict(ratios)} keep no supervised token of this corpus.")
    rows, masks = supply.take_tokens(wanted)
    asked = {name: float(value) for name, value in zip(COMPONENTS, wanted / wanted.sum(), strict=True)}
    return _plan(supply, [(rows, masks, supply.shares_of(rows, masks, asked, {}))])


_Stretch = tuple[Ints, Masks, Shares]
"""Rows of the supply, what is learnt in each, and the shares."""


@dataclass(frozen=True)
class _Column:
    """A component, or one form or case of it, as a phase asks for it. ``rows`` hold it, in the order of a round."""

    component: int
    part: str | None
    weight: float
    rows: Ints
    available: int
    """Supervised tokens."""
    left: int
    """Supervised tokens that may still be learnt, all repeats together."""
    before: int
    """Supervised tokens learnt already that the weight counts, too."""

    @property
    def name(self) -> str:
        component = COMPONENTS[self.component]
        return component if self.part is None else f"{component}/{self.part}"


class _Supply:
    """The eligible samples in stable order, and how often each component of each has been read.

    A component is read round by round: round r holds the samples that were read r times or less, and comes before
    round r + 1. While all samples may be read, that is the stable order over and over. Where a phase may read more
    than those before it, what is new comes first in each round: going on with the old, where each component has its
    own place, would read many samples once more for each of their components (a quarter of the supervised tokens of
    three rungs was lost by that).
    """

    def __init__(self, index: Index, max_repeats: int) -> None:
        self.index = index
        self.num_tokens = index.num_tokens
        self.supervised = index.supervised
        self.available = index.supervised.sum(axis=0)
        self.max_repeats = max_repeats
        self._read = np.zeros((len(COMPONENTS), len(index.num_tokens)), dtype=np.int64)
        self._num_known = 0
        """Samples, the first ones, that the phases before might read."""

    def columns(self, phase: Phase, fraction: float, goes_on: bool) -> list[_Column]:
        """What a phase gives a weight, as far as it may be read. To be called once for each phase, in their order.

        ``goes_on``: its shares are those of all that is read by then, not of its own tokens.
        """
        num_readable = int(np.count_nonzero(_below(self.index.keys, fraction * (phase.fraction or 1.0))))
        found = []
        for number, component in enumerate(COMPONENTS):
            weight = float(phase.weights.get(component, 0.0))
            division = phase.division(component)
            shares: Iterable[tuple[str | None, float]] = [(None, 1.0)] if division is None else division.items()
            for part, share in shares:
                if weight * share:
                    found.append(self._column(number, part, weight * share, num_readable, goes_on))
        self._num_known = max(self._num_known, num_readable)
        return found

    def take(self, columns: Sequence[_Column], budget: int, refuse_short: bool, where: str) -> tuple[Ints, Masks]:
        """The next samples that meet the weights within the budget, and what is learnt in each.

        With x supervised tokens in all, a column is read up to its place nearest to ``weight * x`` tokens on. So each
        (sample, round) is read from a certain x on; in the order of these x as many are taken as the budget holds.
        However small its share, no column that is asked for is left out.
        """
        limits = [(column.before + column.left) / column.weight for column in columns]
        scarce = columns[int(np.argmin(limits))]
        # What is learnt is read, so x can't pass the budget by more than half a sample of each column.
        begun = sum(column.before for column in columns)
        most = min(*limits, begun + budget + len(columns) / 2 * float(self.num_tokens.max(initial=0)) + 1)
        queues = [self._queue(column, most) for column in columns]
        num_rounds = max(int(rounds[-1]) + 1 if len(rounds) else 0 for rounds, _, _ in queues)
        earliest = np.full((num_rounds, len(self.num_tokens)), np.inf)
        for rounds, rows, begins in queues:
            earliest[rounds, rows] = np.minimum(earliest[rounds, rows], begins)
        flat = earliest.ravel()
        order = np.flatnonzero(flat < np.inf)
        order = order[np.argsort(flat[order], kind="stable")]
        total = np.cumsum(self.num_tokens[order % max(1, len(self.num_tokens))])
        num = int(np.searchsorted(total, budget, side="right"))
        if num < len(order):
            stop = float(flat[order[num]])
        elif refuse_short:
            raise ValueError(
                f"The budget{where} of {budget:,} tokens can't be filled: {scarce.weight:.1%} {scarce.name} with at "
                f"most {self.max_repeats} repeats of the {scarce.available:,} supervised tokens available lasts for "
                f"{int(total[-1]) if len(total) else 0:,} tokens. Add data, lower the budget or that weight, or allow "
                "more repeats."
            )
        else:
            stop = np.inf
        counts = [int(np.searchsorted(begins, stop, side="left")) for _, _, begins in queues]
        return self._take(
            columns, [(rounds[:n], rows[:n]) for (rounds, rows, _), n in zip(queues, counts, strict=True)]
        )

    def take_tokens(self, wanted: Floats) -> tuple[Ints, Masks]:
        """The samples up to the place in each component that is nearest to so many supervised tokens."""
        columns = [self._column(i, None, 1.0, len(self.num_tokens), False) for i, number in enumerate(wanted) if number]
        queues = [self._queue(column, wanted[column.component]) for column in columns]
        return self._take(columns, [(rounds, rows) for rounds, rows, _ in queues])

    def shares_of(self, rows: Ints, masks: Masks, asked: dict[str, float], asked_parts: dict[str, float]) -> Shares:
        """What came out of a choice."""
        learnt = _unpack(masks) * self.supervised[rows]
        counts = learnt.sum(axis=0)
        chosen = Index(
            self.index.keys[rows], self.num_tokens[rows], learnt, self.index.forms[rows], self.index.cases[rows]
        )
        return Shares(
            asked,
            _shares(counts),
            int(chosen.num_tokens.sum()),
            int(counts.sum()),
            asked_parts,
            proportional_parts(chosen),
        )

    def _column(self, component: int, part: str | None, weight: float, num_readable: int, goes_on: bool) -> _Column:
        counts = self.supervised[:num_readable, component]
        holds = counts > 0
        if part is not None:
            labels, number = (
                (self.index.cases, CASES.index(part))
                if part in NEGATIVE_CASES
                else (self.index.forms, FORMS.index(part))
            )
            holds &= labels[:num_readable] == number
        rows = np.flatnonzero(holds)
        rows = np.roll(rows, -int(np.searchsorted(rows, self._num_known))) if self._num_known < num_readable else rows
        available = int(counts[rows].sum())
        read = int((self._read[component, rows] * counts[rows]).sum())
        left = self.max_repeats * available - read
        return _Column(component, part, weight, rows, available, left, read if goes_on else 0)

    def _queue(self, column: _Column, most: float) -> tuple[Ints, Ints, Floats]:
        """Rounds and rows of a column's next samples, and from how many supervised tokens of all columns on each is
        read, ascending to ``most``.

        A sample counts as read from the middle of its own tokens on, which leaves the smaller error; the first one
        from the first token on.
        """
        counts = self.supervised[column.rows, column.component]
        read = self._read[column.component, column.rows]
        chosen: list[Ints] = []
        rounds: list[Ints] = []
        tokens = 0
        for number in range(int(read.min(initial=self.max_repeats)), self.max_repeats):
            places = np.flatnonzero(read <= number)
            chosen.append(places)
            rounds.append(np.full(len(places), number))
            tokens += int(counts[places].sum())
            if column.before + tokens > column.weight * most:
                break
        if not chosen:
            return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0)
        places = np.concatenate(chosen)
        sizes = counts[places]
        begins = (column.before + np.cumsum(sizes) - sizes / 2) / column.weight
        if not column.before:
            begins[:1] = 0.0
        end = int(np.searchsorted(begins, most, side="right"))
        return np.concatenate(rounds)[:end], column.rows[places[:end]], begins[:end]

    def _take(self, columns: Sequence[_Column], places: Sequence[tuple[Ints, Ints]]) -> tuple[Ints, Masks]:
        """Read these rounds and rows of the columns; rows by round and stable order, and their masks."""
        num_rounds = max((int(rounds[-1]) + 1 for rounds, _ in places if len(rounds)), default=0)
        masks = np.zeros((num_rounds, len(self.num_tokens)), dtype=np.uint8)
        for column, (rounds, rows) in zip(columns, places, strict=True):
            masks[rounds, rows] |= np.uint8(1 << column.component)
            # Rounds ascend, and of several values for one row NumPy keeps the last.
            self._read[column.component, rows] = rounds + 1
        rounds, rows = np.nonzero(masks)
        return rows, masks[rounds, rows]


def _one_line(phases: Sequence[Phase]) -> bool:
    """Whether phases are increments of one mixture: the same shares, of more and more trajectories."""
    return all(
        replace(each, share=1.0, fraction=1.0) == replace(phases[0], share=1.0, fraction=1.0) for each in phases
    ) and all(each.fraction is not None for each in phases)


def _check_names(weights: Mapping[str, float], what: str) -> None:
    unknown = set(weights) - set(COMPONENTS)
    if unknown:
        raise ValueError(f"Unknown component {sorted(unknown)[0]!r} in the {what}; there are {', '.join(COMPONENTS)}.")


def _check_parts(shares: Mapping[str, float] | None, groups: Sequence[tuple[str, ...]], what: str) -> None:
    if shares is None:
        return
    names = [name for group in groups for name in group]
    if unknown := sorted(set(shares) - set(names)):
        raise ValueError(f"Unknown {what} {unknown[0]!r} in the {what}s of the mixture; there are {', '.join(names)}.")
    if any(share < 0 or not np.isfinite(share) for share in shares.values()):
        raise ValueError(f"Shares of {what}s must be finite and not negative, but are {dict(shares)}.")
    for group in groups:
        given = {name: shares[name] for name in group if name in shares}
        if given and abs(sum(given.values()) - 1) > 1e-6:
            raise ValueError(
                f"The shares of the {what}s {', '.join(group)} must sum to 1, but {given} sum to "
                f"{sum(given.values()):.6f}."
            )


def _check_supply(columns: Sequence[_Column], schedule: Schedule, phase: Phase, where: str) -> None:
    for column in columns:
        name = column.name
        if not column.available:
            fraction = schedule.fraction * (phase.fraction or 1.0)
            raise ValueError(
                f"The mixture{where} asks for {column.weight:.1%} {name}, but the corpus holds no supervised {name} "
                f"token at fraction {fraction}; add a source that does or give {column.part or name} the "
                f"{'share' if column.part else 'weight'} 0."
            )
        if not column.left:
            raise ValueError(
                f"The mixture{where} asks for {column.weight:.1%} {name}, but the phases before it have read its "
                f"{column.available:,} supervised tokens {schedule.max_repeats} times already; add data, lower the "
                "budget, or allow more repeats."
            )


def _eligible(index: Index, fraction: float) -> Index:
    """The part of the index that may be read: its first rows, as they are sorted by key."""
    end = int(np.count_nonzero(_below(index.keys, fraction)))
    return Index(index.keys[:end], index.num_tokens[:end], index.supervised[:end], index.forms[:end], index.cases[:end])


def _below(keys: Ints, fraction: float) -> npt.NDArray[np.bool_]:
    # Compared as floats, 2**63 * fraction is exact for the fractions in use; the key of 2**63 itself does not occur.
    return np.asarray(keys < fraction * float(2**63))


def _plan(supply: _Supply, parts: Sequence[_Stretch]) -> Plan:
    rows = np.concatenate([rows for rows, _, _ in parts])
    masks = np.concatenate([masks for _, masks, _ in parts])
    phases = np.concatenate([np.full(len(each[0]), number, dtype=np.int8) for number, each in enumerate(parts)])
    shares = tuple(each for _, _, each in parts)
    counts = (_unpack(masks) * supply.supervised[rows]).sum(axis=0)
    learnt = np.zeros(len(supply.num_tokens), dtype=np.uint8)
    np.bitwise_or.at(learnt, rows, masks)
    unread = supply.available - (_unpack(learnt) * supply.supervised).sum(axis=0)
    total = max(1, int(counts.sum()))

    def mean(of: Sequence[dict[str, float]], names: Sequence[str]) -> dict[str, float]:
        return {
            name: sum(each[name] * share.num_supervised for each, share in zip(of, shares, strict=True)) / total
            for name in names
        }

    divided = [name for name in shares[0].asked_parts if all(name in each.asked_parts for each in shares)]
    realised = [each.realised_parts for each in shares]
    return Plan(
        rows=rows,
        masks=masks,
        phases=phases,
        asked=mean([each.asked for each in shares], COMPONENTS),
        realised=_shares(counts),
        asked_parts=mean([each.asked_parts for each in shares], divided),
        realised_parts=mean(realised, list(realised[0])),
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
