"""Instruction-following pairs: a prompt that asks for a ReAct or JSON step with key names of its own, and the step.

Agent-FLAN section 3.2: the format is learnt as an instruction that was given, not as a habit, because its key names
change from pair to pair. Half are JSON and half are plain strings, as in the paper's release.
"""

from __future__ import annotations

from agentflan_ray.corpus.align import case_of
from agentflan_ray.forms import Keys, json_parts, json_system, observation, react_parts, react_system
from agentflan_ray.randomness import stable_random
from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.trajectory import Trajectory

THOUGHT_NAMES = ("Thought", "Reasoning", "Plan", "Goal", "Cot", "Think", "Why")
ACTION_NAMES = ("Action", "Command", "Tool", "Function", "Call", "Api")
ARGUMENT_NAMES = ("Args", "Parameters", "Input", "ActionInput", "Values", "Arguments")
ANSWER_NAMES = ("Answer", "Final Answer", "Reply", "Response", "Finish", "Result")


def draw_keys(*names: object) -> Keys:
    """Key names for one pair, drawn from the names given."""
    rng = stable_random("keys", *names)
    words = [rng.choice(choices) for choices in (THOUGHT_NAMES, ACTION_NAMES, ARGUMENT_NAMES, ANSWER_NAMES)]
    style = rng.choice((str, str.lower, str.upper))
    return Keys(*(style(word) for word in words))


def instruction_pair(trajectory: Trajectory, seed: int) -> Sample:
    """One step of the trajectory, asked for in a format of its own.

    The steps before it are the history, in the same format and not learnt again.
    """
    assert case_of(trajectory) == "tool"
    rng = stable_random(seed, "instruct", trajectory.id)
    steps = [index for index, message in enumerate(trajectory.messages) if message.loss]
    chosen = rng.choice(steps)
    form = rng.choice(("react", "json"))
    keys = draw_keys(seed, trajectory.id)
    write = react_parts if form == "react" else json_parts
    turns = [Turn("system", (Part((react_system if form == "react" else json_system)(trajectory.tools, keys)),))]
    asked: list[str] = []
    for index, message in enumerate(trajectory.messages[: chosen + 1]):
        if message.role in ("user", "tool"):
            asked.append(observation(message.content) if message.role == "tool" else message.content)
        elif message.role == "assistant":
            turns.append(Turn("user", (Part("\n".join(asked)),)))
            parts = write(message, keys)
            turns.append(Turn("assistant", parts if index == chosen else tuple(Part(part.text) for part in parts)))
            asked = []
    return Sample(
        id=f"{trajectory.id}/instruct",
        parent=trajectory.id,
        source=trajectory.source,
        form="react" if form == "react" else "json",
        case="tool",
        turns=tuple(turns),
    )
