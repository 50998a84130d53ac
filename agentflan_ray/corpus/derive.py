"""All samples of one trajectory, and every sample that could not be made, with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from agentflan_ray.corpus import negatives
from agentflan_ray.corpus.align import case_of, chat_form, format_keyword_in, react_form
from agentflan_ray.corpus.instruct import instruction_pair
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.randomness import stable_random, stable_share
from agentflan_ray.sample import CASES, Form, Part, Sample, Turn
from agentflan_ray.trajectory import Tool, Trajectory


class Omission(NamedTuple):
    """A sample that was not made: of which trajectory, which kind, and why."""

    parent: str
    kind: str
    reason: str


def derive(trajectory: Trajectory, recipe: CorpusRecipe, catalogue: Sequence[Tool]) -> list[Sample | Omission]:
    """The samples of a trajectory in a fixed order. ``catalogue`` holds the tools that negatives list."""
    if "aligned" in trajectory.meta:
        return [_as_released(trajectory)]
    case = case_of(trajectory)
    if case not in CASES:
        raise ValueError(f"Trajectory {trajectory.id!r} has the case {case!r}; known cases are {', '.join(CASES)}.")
    if case == "tool":
        return _from_tool_use(trajectory, recipe, catalogue)
    return _from_talk(trajectory, case, recipe, catalogue)


def _as_released(t: Trajectory) -> Sample:
    """A record of the Agent-FLAN release that is decomposed, or asked for in a format, already.

    Its turns do not say which capability they carry, and its calls are free text: decomposed ones count as reasoning,
    which most of their words are, and formatted ones as instruction following.
    """
    formatted = t.meta["aligned"] == "instruct"
    form: Form = "chat"
    if formatted:
        form = "json" if t.messages[-1].content.lstrip().startswith(("{", "[")) else "react"
    turns = tuple(
        Turn(
            "user" if message.role == "tool" else message.role,
            (Part(message.content, ("instruction" if formatted else "reasoning") if message.loss else None),),
        )
        for message in t.messages
    )
    return Sample(f"{t.id}/{t.meta['aligned']}", t.id, t.source, form, "tool", turns)


def _from_tool_use(t: Trajectory, recipe: CorpusRecipe, catalogue: Sequence[Tool]) -> list[Sample | Omission]:
    made: list[Sample | Omission] = []
    chat = chat_form(t, recipe.seed)
    keyword = format_keyword_in(chat)
    made.append(chat if keyword is None else Omission(t.id, "chat", "format_keyword_in_text"))
    if _drawn(recipe, "react", t, recipe.react_share):
        made.append(react_form(t))
    if _drawn(recipe, "instruct", t, recipe.instruction_share):
        made.append(instruction_pair(t, recipe.seed))
    if _drawn(recipe, "negative", t, recipe.negative_share):
        made.append(_or_omission(t, "no_tool_request", negatives.no_tool_request(t, recipe.seed)))
        made.append(_or_omission(t, "irrelevant_tool", negatives.irrelevant_tool(t, catalogue, recipe.seed)))
    return made


def _from_talk(t: Trajectory, case: str, recipe: CorpusRecipe, catalogue: Sequence[Tool]) -> list[Sample | Omission]:
    rng = stable_random(recipe.seed, "talk", t.id)
    own_system = [Turn("system", (Part(m.content),)) for m in t.messages[:1] if m.role == "system"]
    turns = negatives.listed(t, t.tools, rng) if t.tools else own_system + negatives.plain_turns(t)
    sample = Sample(f"{t.id}/{case}", t.id, t.source, "chat", case, tuple(turns))  # type: ignore[arg-type]
    keyword = format_keyword_in(sample)
    made: list[Sample | Omission] = [sample if keyword is None else Omission(t.id, case, "format_keyword_in_text")]
    if case == "chat" and keyword is None and _drawn(recipe, "negative", t, recipe.negative_share):
        made.append(_or_omission(t, "chat_with_tools", negatives.chat_with_tools(t, catalogue, recipe.seed)))
    return made


def _drawn(recipe: CorpusRecipe, kind: str, t: Trajectory, share: float) -> bool:
    return stable_share(recipe.seed, kind, t.id) < share


def _or_omission(t: Trajectory, kind: str, made: Sample | str) -> Sample | Omission:
    return Omission(t.id, kind, made) if isinstance(made, str) else made
