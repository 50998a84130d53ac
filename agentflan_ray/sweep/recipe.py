"""What a search is: every literal that its outcome depends on, and named ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.evaluate.measures import WEIGHTED
from agentflan_ray.sample import COMPONENTS
from agentflan_ray.search.goals import Bound, check_names, parse_bound, parse_objectives
from agentflan_ray.search.promotion import Promotion
from agentflan_ray.search.searcher import Objective
from agentflan_ray.search.space import Interval, Space
from agentflan_ray.toolbox import ITEM_CASES
from agentflan_ray.train import models
from agentflan_ray.train.recipe import TrainRecipe, agentflan_llama2_7b, laptop

TRAINED = ("validation_loss", *(f"validation_loss/{component}" for component in COMPONENTS))
"""Metrics of each training that a search may aim at, besides those of the evaluation."""


@dataclass(frozen=True, kw_only=True)
class SweepRecipe:
    """The identity of a search: every literal that its outcome depends on, besides the sources."""

    train: TrainRecipe
    budget: int
    """Tokens that a trial trains on at fraction 1."""
    num_trials: int
    """Trials of the search; with the sampler ``mixture`` one more tries what it recommends in the end."""
    corpus: CorpusRecipe = field(default_factory=CorpusRecipe)
    cleaning: CleanRecipe = field(default_factory=CleanRecipe)
    space: Space = field(default_factory=Space)
    sampler: str = "mixture"
    seed: int = 0
    max_repeats: int = 4
    paper_negative_share: float = 0.1
    """Negatives in the mix named paper; the paper gives 761 samples beside 24,703, no share of tokens."""
    validation_budget: int = 20_000
    """Held-out tokens that each trial is measured on."""
    objectives: tuple[Objective, ...] = (Objective("score", "max"),)
    """What the best mixture is best in. Of several, the first decides among those that no other one beats in all."""
    weights: tuple[tuple[str, float], ...] = ()
    """Terms of the weighted sum that an objective ``weighted_score`` stands for."""
    constraints: tuple[Bound, ...] = (Bound("over_refusal_rate", "<=", 0.5),)
    """What the best mixture must keep: here, not to refuse more than half of the answerable requests."""
    rungs: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Parts of its data after which a trial is scored, and promoted or stopped; with the end alone all run to it."""
    promotion: Promotion = field(default_factory=Promotion)
    """Who is promoted."""
    choose_items: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_CASES, 60))
    """Held-out items by case that choose between trials."""
    judge_items: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ITEM_CASES, 60))
    """Held-out items by case, of other groups, that the base model and the retrained ones are judged by."""
    evaluation_batch: int = 64
    """Replies generated at once; part of the identity because near-ties fall differently in other batches."""
    confirm_seeds: tuple[int, ...] = (1, 2, 3)
    """The best mix is trained again with these seeds; the first of these models is the one that is kept."""
    prove: bool = False
    """Whether the three named mixes are trained again as well, and the best one compared with each."""
    proof_seeds: tuple[int, ...] = (1, 2, 3)
    """Seeds of these trainings."""

    def __post_init__(self) -> None:
        if self.num_trials < 1:
            raise ValueError(f"num_trials must be at least 1, but is {self.num_trials}.")
        if bool(self.weights) != (WEIGHTED in [objective.metric for objective in self.objectives]):
            raise ValueError(
                f"The objectives are {[each.metric for each in self.objectives]} and the weights {dict(self.weights)}; "
                f"an objective {WEIGHTED} and weights for it go together."
            )
        if list(self.rungs) != sorted(set(self.rungs)) or self.rungs[:1] <= (0.0,) or self.rungs[-1:] != (1.0,):
            raise ValueError(f"rungs are {self.rungs}; they must rise from above 0 to 1, which is the end of a trial.")
        cases = [case for case, number in self.choose_items.items() if number]
        check_names(self.objectives, self.weights, self.constraints, cases, TRAINED)

    def aiming_at(self, objectives: Sequence[str] = (), constraints: Sequence[str] = ()) -> SweepRecipe:
        """The same with other objectives or constraints, as a user writes them; where none are given, these are kept.

        Raises ``ValueError`` where one can't be read, or names what no trial reports
        (see :mod:`agentflan_ray.search.goals`).
        """
        recipe = self
        if objectives:
            parsed, weights = parse_objectives(objectives)
            recipe = replace(recipe, objectives=parsed, weights=weights)
        if constraints:
            recipe = replace(recipe, constraints=tuple(parse_bound(text) for text in constraints))
        return recipe


def laptop_sweep() -> SweepRecipe:
    """A search with a real model of 135M parameters on two CPU cores.

    25,000 tokens hold some 5,000 supervised ones of mixes that are dense in them, explicit formats and negatives; with
    10,000 the model learnt nothing but to refuse. No trial is stopped early: the losses of 25 steps don't foretell the
    score, and would stop the mix that is best in it. Four trials teach a sampler nothing, so none is recommended.
    """
    return SweepRecipe(
        train=replace(laptop(), validate_every=25),
        budget=25_000,
        num_trials=4,
        space=Space(
            negative_share=Interval(0.2, 0.4),
            general_share=Interval(0.1, 0.4),
            log2_retrieval=Interval(-4.0, -1.0),
            log2_understanding=Interval(-3.0, 0.0),
            log2_instruction=Interval(0.0, 2.0),
            fraction=1.0,
        ),
        sampler="tpe",
        rungs=(1.0,),
        validation_budget=3_000,
        choose_items={"tool": 16, **dict.fromkeys(ITEM_CASES[1:], 6)},
        judge_items={"tool": 32, **dict.fromkeys(ITEM_CASES[1:], 10)},
        confirm_seeds=(1,),
    )


def rehearsal_sweep() -> SweepRecipe:
    """The whole job with a random model of two layers, to try a cluster or the code: what it learns means nothing."""
    train = TrainRecipe(
        model=models.TINY_LLAMA, block_length=2048, blocks_per_step=1, learning_rate=1e-2, validate_every=4
    )
    return SweepRecipe(
        train=train,
        budget=40_000,
        num_trials=4,
        validation_budget=8_000,
        choose_items=dict.fromkeys(ITEM_CASES, 2),
        judge_items=dict.fromkeys(ITEM_CASES, 2),
        rungs=(0.5, 1.0),
        confirm_seeds=(1,),
        proof_seeds=(1, 2),
    )


def cluster_sweep(model: str) -> SweepRecipe:
    """A search with a model of the paper's size: its training recipe, 20M tokens at fraction 1, and the proof."""
    return SweepRecipe(
        train=replace(agentflan_llama2_7b(), model=model),
        budget=20_000_000,
        num_trials=24,
        constraints=(Bound("over_refusal_rate", "<=", 0.5), Bound("sensible_rate", ">=", -0.1, is_relative=True)),
        prove=True,
    )
