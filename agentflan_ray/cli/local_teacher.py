"""A model of this cluster as a teacher: what a Ray worker loads to answer requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentflan_ray.corpus.teacher.local import Generate
    from agentflan_ray.corpus.teacher.recipe import TeacherRecipe


def open_generator(recipe: TeacherRecipe) -> Generate:
    """Load the recipe's model; it takes the likeliest token always, as the recipe's temperature of 0 says."""
    from agentflan_ray.evaluate.engine import ask_all
    from agentflan_ray.evaluate.engines.transformers import TransformersPlan
    from agentflan_ray.train.models import resolve

    assert recipe.temperature == 0, "Models of this cluster generate greedily."
    engine = TransformersPlan(resolve(recipe.model), recipe.model).open()
    return lambda conversations: ask_all(engine, conversations, recipe.max_tokens)
