"""Cleaning: rules that look at one trajectory (:func:`examine`), and duplicates, which are found among all of them."""

from __future__ import annotations

from agentflan_ray.corpus.clean.contamination import EvaluationGrams, EvaluationSet, searched_texts
from agentflan_ray.corpus.clean.filters import holding_personal_data, other_language, too_short_or_long
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.clean.rules import Verdict, breaking_the_schema, going_in_circles
from agentflan_ray.trajectory import Trajectory

CONTAMINATED = "contaminated:"
"""The reason of a record that holds an evaluation item, followed by the name of the first such set."""

__all__ = ["CONTAMINATED", "CleanRecipe", "EvaluationGrams", "EvaluationSet", "Verdict", "examine"]


def examine(trajectory: Trajectory, recipe: CleanRecipe, evaluation: EvaluationGrams | None) -> Verdict | None:
    """The first rule that a valid trajectory breaks, None for one to keep.

    Without ``evaluation`` nothing is decontaminated. Raises ``ValueError`` where its n-grams are not the recipe's.
    """
    if evaluation is not None and evaluation.ngram != recipe.ngram:
        raise ValueError(f"The evaluation grams have {evaluation.ngram} words, but the recipe asks for {recipe.ngram}.")
    return (
        (breaking_the_schema(trajectory) if recipe.schema else None)
        or (going_in_circles(trajectory) if recipe.loops else None)
        or (_contaminated(trajectory, evaluation) if evaluation is not None else None)
        or too_short_or_long(trajectory, recipe)
        or other_language(trajectory, recipe)
        or holding_personal_data(trajectory, recipe)
    )


def _contaminated(trajectory: Trajectory, evaluation: EvaluationGrams) -> Verdict | None:
    overlaps = evaluation.overlaps(searched_texts(trajectory))
    if not overlaps:
        return None
    found = "; ".join(f"{overlap.item} of the set {overlap.set!r}: {overlap.words!r}" for overlap in overlaps)
    sentence = f"Record {trajectory.id!r} has words of an evaluation item: {found}."
    return Verdict(f"{CONTAMINATED}{overlaps[0].set}", sentence)
