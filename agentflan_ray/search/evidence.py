"""Whether what the trials of a study have learnt from is still what the corpus holds.

A study may be continued with a corpus that has grown, or whose parts were made anew. What its trials say is then about
other data. By default that is refused; told to, it is kept for what it is worth: a trial's share of supervised tokens
that came from buckets (:mod:`agentflan_ray.tokens.buckets`) which are unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from optuna.trial import FrozenTrial, TrialState

from agentflan_ray import storage

BUCKETS = "buckets"
"""User attribute of an ended trial: ``[supervised tokens, fingerprint]`` of each bucket that it has learnt from."""
CORPUS = "corpus"
"""User attribute of a trial: the fingerprint of all buckets when it began."""

Changed = Literal["refuse", "down-weight"]


@dataclass(frozen=True)
class Evidence:
    """What a study needs to know of the corpus.

    Attributes:
        fingerprints: Of each bucket, now.
        learnt_from: Supervised tokens by bucket of a trial, by its number; None where it was never planned.
        changed: What to do with trials whose buckets have changed.
    """

    fingerprints: Mapping[str, str]
    learnt_from: Callable[[int], Mapping[str, int] | None]
    changed: Changed = "refuse"

    @property
    def corpus(self) -> str:
        """The fingerprint of all buckets."""
        return storage.fingerprint(dict(self.fingerprints))

    def of(self, number: int) -> dict[str, list[int | str]] | None:
        """The attribute :data:`BUCKETS` of a trial that ends now."""
        counts = self.learnt_from(number)
        if counts is None:
            return None
        return {name: [count, self.fingerprints[name]] for name, count in counts.items()}


@dataclass(frozen=True)
class Changes:
    """What has changed under a study.

    Attributes:
        buckets: Names of the buckets that trials have learnt from and that are not what they were.
        shares: By number of each trial that this concerns, the share of its supervised tokens that is unchanged.
        interrupted: Numbers of trials that run on data that is not there any more.
    """

    buckets: tuple[str, ...]
    shares: Mapping[int, float]
    interrupted: tuple[int, ...]

    def __str__(self) -> str:
        named = ", ".join(self.buckets[:5]) + (f" and {len(self.buckets) - 5} more" if len(self.buckets) > 5 else "")
        parts = []
        if self.shares:
            lowest, highest = min(self.shares.values()), max(self.shares.values())
            parts.append(
                f"{len(self.shares)} of its trials have learnt from {named or 'other data'}, which changed "
                f"({lowest:.0%} to {highest:.0%} of their supervised tokens did not)"
            )
        if self.interrupted:
            parts.append(f"trial {', '.join(map(str, self.interrupted))} was interrupted on the corpus before")
        return "; ".join(parts)


def changes(trials: Sequence[FrozenTrial], evidence: Evidence) -> Changes | None:
    """What of the trials' evidence is about other data; None where all of it holds."""
    buckets: set[str] = set()
    shares: dict[int, float] = {}
    interrupted = []
    for trial in trials:
        if trial.state == TrialState.RUNNING and trial.user_attrs.get(CORPUS, evidence.corpus) != evidence.corpus:
            interrupted.append(trial.number)
        read = trial.user_attrs.get(BUCKETS)
        if not read:
            continue
        other = {name for name, (_, seen) in read.items() if evidence.fingerprints.get(name) != seen}
        if other:
            buckets |= other
            total = sum(count for count, _ in read.values())
            shares[trial.number] = 1 - sum(read[name][0] for name in other) / total
    return Changes(tuple(sorted(buckets)), shares, tuple(interrupted)) if shares or interrupted else None
