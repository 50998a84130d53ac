"""Filters that a recipe may turn on: length, language, personal data. Each is off by default."""

from __future__ import annotations

from agentflan_ray.corpus.clean.language import SUREST, language_of
from agentflan_ray.corpus.clean.personal import personal_data
from agentflan_ray.corpus.clean.recipe import CleanRecipe
from agentflan_ray.corpus.clean.rules import Verdict
from agentflan_ray.trajectory import Message, Trajectory


def too_short_or_long(trajectory: Trajectory, recipe: CleanRecipe) -> Verdict | None:
    """Fewer learnt characters than ``min_characters``, more of all than ``max_characters``, more than ``max_turns``."""
    if recipe.min_characters is not None:
        learnt = sum(_num_characters(message) for message in trajectory.messages if message.loss)
        if learnt < recipe.min_characters:
            return Verdict(
                "too_short",
                f"Record {trajectory.id!r} has {learnt} characters to learn; at least {recipe.min_characters} are "
                "asked for.",
            )
    if recipe.max_characters is not None:
        total = sum(map(_num_characters, trajectory.messages))
        if total > recipe.max_characters:
            return Verdict(
                "too_long",
                f"Record {trajectory.id!r} has {total} characters; at most {recipe.max_characters} are asked for.",
            )
    if recipe.max_turns is not None:
        turns = sum(message.role != "system" for message in trajectory.messages)
        if turns > recipe.max_turns:
            return Verdict(
                "too_many_turns",
                f"Record {trajectory.id!r} has {turns} turns; at most {recipe.max_turns} are asked for.",
            )
    return None


def other_language(trajectory: Trajectory, recipe: CleanRecipe) -> Verdict | None:
    """Surely in a language that is not asked for. Texts too short to tell are kept."""
    if not recipe.languages:
        return None
    language = language_of(trajectory)
    if language is None or language.code in recipe.languages or language.probability < SUREST:
        return None
    return Verdict(
        "other_language",
        f"Record {trajectory.id!r} is in the language {language.code!r} ({language.probability:.0%}); asked for are "
        f"{', '.join(recipe.languages)}.",
    )


def holding_personal_data(trajectory: Trajectory, recipe: CleanRecipe) -> Verdict | None:
    """Personal data in any message, tool results included: what is stored and trained on must hold none."""
    if not recipe.personal_data:
        return None
    for index, message in enumerate(trajectory.messages):
        text = "\n".join([message.content, message.thought, *(call.arguments for call in message.calls)])
        if found := personal_data(text, recipe.personal_data):
            return Verdict(
                "personal_data",
                f"Message {index} of {trajectory.id!r} holds something of the shape {found.pattern!r}: "
                f"{found.text[:2]}…{found.text[-2:]}.",
            )
    return None


def _num_characters(message: Message) -> int:
    return len(message.content) + len(message.thought) + sum(len(call.arguments) for call in message.calls)
