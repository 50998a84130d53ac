"""What a corpus is made of: literals that, with the sources' contents, are its identity. Named ones at the end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

AGENT_FLAN_RATIOS = {"reasoning": 1.0, "retrieval": 0.25, "understanding": 0.75}
"""Weights of the capabilities in the final data of Agent-FLAN (arXiv 2403.12881); its general data is one to one with
the agent data. Both are the mixture's to apply."""

AGENT_FLAN_TRAJECTORIES = 24_703
AGENT_FLAN_PAIRS = 2_000
TOOLBENCH_QUERIES = 22_867
TOOLBENCH_NEGATIVES = 761
"""Counts of the paper: trajectories in all, instruction-following pairs beside them, ToolBench queries, and those that
were given a reply without tools, half of them beside irrelevant tools."""


@dataclass(frozen=True)
class CorpusRecipe:
    """Which samples are made of which trajectories.

    The shares say for what part of the trajectories a kind of sample is made, chosen by a stable hash of the id, so a
    smaller share lies inside a larger one. They bound what a mixture can draw from; the mixture weighs it.
    """

    seed: int = 0
    chat_share: float = 1.0
    """Share of tool trajectories decomposed into chat (section 3.1)."""
    cot_share: float = 0.0
    """Share of tool trajectories with thought and call in one turn of plain words (chain of thought)."""
    react_share: float = 1.0
    """Share of tool trajectories kept whole in ReAct form (the paper keeps 10 %, section 3.1)."""
    one_form: bool = False
    """Each tool trajectory in exactly one of the three forms, by the shares, which then add up to 1."""
    instruction_share: float = 0.1
    """Share of tool trajectories that give an instruction-following pair: the paper has 2,000 beside 24,703
    trajectories (section 3.2)."""
    no_tool_request_share: float = 1.0
    """Share of tool trajectories whose query is asked without any tool (section 3.4)."""
    irrelevant_tool_share: float = 1.0
    """Share of tool trajectories whose query is asked beside tools that can't help (section 3.4)."""
    chat_with_tools_share: float = 1.0
    """Share of ordinary conversations told again with tools listed (section 3.4)."""
    near_miss_share: float = 0.5
    """Share of tool trajectories whose query is asked beside a tool that only seems to fit."""
    missing_argument_share: float = 0.25
    """Share of tool trajectories that are cut at the assistant's question for a missing argument."""
    tool_error_share: float = 0.25
    """Share of tool trajectories in which a tool fails. With the two above, the cases beyond the paper's grid are at
    most a third of the negatives that tool trajectories give."""
    max_quarantined: float = 0.05
    """Above this share of quarantined records the build stops: the data or its adapter is wrong."""

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if each.type == "float" and not 0 <= value <= 1:
                raise ValueError(f"{each.name} is {value}, but a share lies between 0 and 1.")
        total = self.chat_share + self.cot_share + self.react_share
        if self.one_form and not math.isclose(total, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"With one_form, chat_share, cot_share and react_share add up to 1, but {self.chat_share}, "
                f"{self.cot_share} and {self.react_share} make {total:g}; change one of them or turn one_form off."
            )


def laptop() -> CorpusRecipe:
    """The default: chat and ReAct of every trajectory and all cases, so that a search may weigh what it likes."""
    return CorpusRecipe()


def agent_flan() -> CorpusRecipe:
    """The paper's: 60 % decomposed, 30 % chain of thought, 10 % ReAct, 2,000 pairs, 761 negatives (section 3).

    The 60 / 30 / 10 are of the released ToolBench part; the paper itself says 90 % conversation and 10 % ReAct.
    """
    negatives = TOOLBENCH_NEGATIVES / TOOLBENCH_QUERIES / 2
    return CorpusRecipe(
        chat_share=0.6,
        cot_share=0.3,
        react_share=0.1,
        one_form=True,
        instruction_share=AGENT_FLAN_PAIRS / AGENT_FLAN_TRAJECTORIES,
        no_tool_request_share=negatives,
        irrelevant_tool_share=negatives,
        chat_with_tools_share=0.0,
        near_miss_share=0.0,
        missing_argument_share=0.0,
        tool_error_share=0.0,
    )


def react_baseline() -> CorpusRecipe:
    """The paper's baseline: every trajectory in ReAct form, no pairs, no negatives."""
    return CorpusRecipe(
        chat_share=0.0,
        cot_share=0.0,
        react_share=1.0,
        one_form=True,
        instruction_share=0.0,
        no_tool_request_share=0.0,
        irrelevant_tool_share=0.0,
        chat_with_tools_share=0.0,
        near_miss_share=0.0,
        missing_argument_share=0.0,
        tool_error_share=0.0,
    )


RECIPES: dict[str, Callable[[], CorpusRecipe]] = {
    "laptop": laptop,
    "agent-flan": agent_flan,
    "react-baseline": react_baseline,
}
"""By the name that users write."""
