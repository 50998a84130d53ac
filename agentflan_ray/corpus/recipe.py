"""What a corpus is made of: literals that, with the sources' contents, are its identity."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusRecipe:
    """Which samples are made of which trajectories.

    The shares say for what part of the trajectories a kind of sample is made, chosen by a stable hash of the id, so a
    smaller share lies inside a larger one. They bound what a mixture can draw from; the mixture weighs it.
    """

    seed: int = 0
    react_share: float = 1.0
    """Share of tool trajectories also kept whole in ReAct form (the paper keeps 10 %, section 3.1)."""
    instruction_share: float = 0.1
    """Share of tool trajectories that give an instruction-following pair: the paper has 2,000 beside 24,703
    trajectories (section 3.2)."""
    negative_share: float = 1.0
    """Share of trajectories that give each kind of negative that fits them (section 3.4)."""
    max_quarantined: float = 0.05
    """Above this share of quarantined records the build stops: the data or its adapter is wrong."""

    def __post_init__(self) -> None:
        for name in ("react_share", "instruction_share", "negative_share", "max_quarantined"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"{name} is {value}, but a share lies between 0 and 1.")
