"""All samples of one trajectory, and every sample that could not be made, with its reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from agentflan_ray.corpus import negatives
from agentflan_ray.corpus.align import (
    case_of,
    chat_form,
    cot_form,
    format_keyword_in,
    has_thoughts,
    react_form,
    split_system,
)
from agentflan_ray.corpus.failures import tool_error
from agentflan_ray.corpus.instruct import instruction_pair
from agentflan_ray.corpus.missing import missing_argument
from agentflan_ray.corpus.recipe import CorpusRecipe
from agentflan_ray.corpus.similarity import Catalogue
from agentflan_ray.forms import FORMATS
from agentflan_ray.randomness import stable_random, stable_share
from agentflan_ray.sample import CASES, Form, Part, Sample, Turn
from agentflan_ray.trajectory import Trajectory


class Omission(NamedTuple):
    """A sample that was not made: of which trajectory, which kind, and why."""

    parent: str
    kind: str
    reason: str


def derive(trajectory: Trajectory, recipe: CorpusRecipe, catalogue: Catalogue) -> list[Sample | Omission]:
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
    form: Form = "cot" if t.meta["aligned"] == "cot" else "chat"
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


def _from_tool_use(t: Trajectory, recipe: CorpusRecipe, catalogue: Catalogue) -> list[Sample | Omission]:
    seed = recipe.seed
    makers: dict[str, Callable[[], Sample | str]] = {
        "chat": lambda: _checked(chat_form(t, seed)),
        "cot": lambda: _checked(cot_form(t, seed)) if has_thoughts(t) else "no_thought",
        "react": lambda: _in_react_form(t),
        "instruct": lambda: instruction_pair(t, seed),
        "no_tool_request": lambda: negatives.no_tool_request(t, seed),
        "irrelevant_tool": lambda: negatives.irrelevant_tool(t, catalogue, seed),
        "near_miss": lambda: negatives.near_miss_tool(t, catalogue, seed),
        "missing_argument": lambda: _checked(missing_argument(t)),
        "tool_error": lambda: _checked(tool_error(t, seed)),
    }
    kinds = [
        *_forms(t, recipe),
        *(kind for kind, share in _shares(recipe).items() if stable_share(seed, kind, t.id) < share),
    ]
    return [_or_omission(t, kind, makers[kind]()) for kind in kinds]


def _forms(t: Trajectory, recipe: CorpusRecipe) -> list[str]:
    """The whole forms that the trajectory is told in.

    Where each takes one form, a trajectory without thoughts, which can't be told as chain of thought, takes one of the
    other two in their proportion, so that it is not lost.
    """
    shares = {"chat": recipe.chat_share, "cot": recipe.cot_share, "react": recipe.react_share}
    if not recipe.one_form:
        return [form for form, share in shares.items() if stable_share(recipe.seed, form, t.id) < share]
    if recipe.cot_share < 1 and not has_thoughts(t):
        del shares["cot"]
    drawn, bound = stable_share(recipe.seed, "form", t.id) * sum(shares.values()), 0.0
    for form, share in shares.items():
        bound += share
        if drawn < bound:
            return [form]
    return [max(shares, key=shares.__getitem__)]  # the sum may differ from the last bound by rounding


def _shares(recipe: CorpusRecipe) -> dict[str, float]:
    """The other kinds of sample of a tool trajectory."""
    return {
        "instruct": recipe.instruction_share,
        "no_tool_request": recipe.no_tool_request_share,
        "irrelevant_tool": recipe.irrelevant_tool_share,
        "near_miss": recipe.near_miss_share,
        "missing_argument": recipe.missing_argument_share,
        "tool_error": recipe.tool_error_share,
    }


def _in_react_form(t: Trajectory) -> Sample | str:
    written = FORMATS["react"]
    sample = react_form(t)
    turns = (turn for turn in sample.turns if turn.role == "assistant")
    said = (message for message in t.messages if message.role == "assistant")
    for turn, message in zip(turns, said, strict=True):
        if message.loss and not written.reads_back(message, written.keys, turn.text):
            return "does_not_read_back"
    return sample


def _from_talk(t: Trajectory, case: str, recipe: CorpusRecipe, catalogue: Catalogue) -> list[Sample | Omission]:
    seed = recipe.seed
    if t.tools:
        turns = negatives.listed(t, t.tools, stable_random(seed, "talk", t.id))
    else:
        own, _ = split_system(t)
        turns = [*([Turn("system", (Part(own),))] if own else []), *negatives.plain_turns(t)]
    sample = _checked(Sample(f"{t.id}/{case}", t.id, t.source, "chat", case, tuple(turns)))  # type: ignore[arg-type]
    made = [_or_omission(t, case, sample)]
    if case == "chat" and isinstance(sample, Sample):
        kind = "chat_with_tools"
        if stable_share(seed, kind, t.id) < recipe.chat_with_tools_share:
            made.append(_or_omission(t, kind, negatives.chat_with_tools(t, catalogue, seed)))
    return made


def _checked(made: Sample | str) -> Sample | str:
    """The sample, unless it would teach a protocol word as ordinary language."""
    if isinstance(made, Sample) and format_keyword_in(made) is not None:
        return "format_keyword_in_text"
    return made


def _or_omission(t: Trajectory, kind: str, made: Sample | str) -> Sample | Omission:
    return Omission(t.id, kind, made) if isinstance(made, str) else made
