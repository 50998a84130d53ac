"""Instruction-following pairs: a prompt that asks for ReAct, JSON or string steps with key names of its own, and one.

Agent-FLAN section 3.2: the format is learnt as an instruction that was given, not as a habit, because its key names
change from pair to pair. The section names ReAct and JSON, the release has JSON and strings: here a third is each.
"""

from __future__ import annotations

import random

from agentflan_ray.corpus.align import case_of, split_system, unlearnt
from agentflan_ray.forms import FORMATS, ExplicitForm, Keys, observation, thought_of, tool_list
from agentflan_ray.randomness import stable_random
from agentflan_ray.sample import Part, Sample, Turn
from agentflan_ray.trajectory import Tool, Trajectory

THOUGHT_NAMES = (
    "Thought",
    "Reasoning",
    "Plan",
    "Goal",
    "Cot",
    "Think",
    "Why",
    "Idea",
    "Rationale",
    "Analysis",
    "Intent",
)
ACTION_NAMES = ("Action", "Command", "Tool", "Function", "Call", "Api", "Operation", "Step", "Name", "Use", "Do")
ARGUMENT_NAMES = (
    "Args",
    "Parameters",
    "Input",
    "ActionInput",
    "Values",
    "Arguments",
    "Params",
    "Inputs",
    "Kwargs",
    "With",
    "Fields",
)
ANSWER_NAMES = (
    "Answer",
    "Final Answer",
    "Reply",
    "Response",
    "Finish",
    "Result",
    "Conclusion",
    "Output",
    "Done",
    "Final",
    "Say",
)
CALLING_SHARE = 0.7
"""Share of the pairs drawn from steps that call: in dialogues most steps only talk, and show little of a format."""
PAIR_FORMS: tuple[ExplicitForm, ...] = ("react", "json", "string")

_INTRODUCTIONS = (
    "You are a helpful assistant. You have these tools:\n{tools}\n",
    "These tools are at your disposal:\n{tools}\n",
    "Tools:\n{tools}\n\n",
    "You help people with the tools below.\n{tools}\n\n",
    "Available functions:\n{tools}\n",
    "You may use the following tools.\n\n{tools}\n\n",
)
_REQUESTS: dict[ExplicitForm, tuple[str, ...]] = {
    "react": (
        "Reply with the lines {thought}:, {action}: (a tool's name) and {arguments}: (a JSON object). Once you know "
        "the answer, end with {answer}: instead.",
        "Write each step as\n{thought}: your reasoning\n{action}: the tool\n{arguments}: its input as JSON\n"
        "and the last one as\n{thought}: your reasoning\n{answer}: what you tell the user",
        "Answer in this format. {thought}: why; {action}: which tool; {arguments}: its input, in JSON; each on a line "
        "of its own. Use {answer}: for the reply itself.",
        "Please keep to four keys, one per line and followed by a colon: {thought}, {action}, {arguments} (JSON) and, "
        "when nothing more is to be called, {answer}.",
        "Your reply must consist of lines that begin with {thought}:, {action}: and {arguments}: (JSON), or with "
        "{thought}: and {answer}: when you are done.",
    ),
    "json": (
        'Reply with a JSON object of "{thought}", "{action}" (a tool\'s name) and "{arguments}" (an object). Once '
        'you know the answer, give one of "{thought}" and "{answer}" instead.',
        'Respond only in JSON: {{"{thought}": …, "{action}": …, "{arguments}": {{…}}}} to use a tool, '
        '{{"{thought}": …, "{answer}": …}} to reply.',
        'Each step is one JSON object. Its keys are "{thought}", "{action}" and "{arguments}" while tools are used, '
        'and "{answer}" in place of the last two at the end.',
        'Write valid JSON with the keys "{thought}" (your reasoning), "{action}" (the tool) and "{arguments}" (what '
        'it gets). The final reply goes under the key "{answer}".',
        'The program that reads you takes JSON objects: "{action}" names the tool, "{arguments}" holds its input, '
        '"{thought}" says why, and "{answer}" ends the task.',
    ),
    "string": (
        "Reply with the lines {thought} = (your reasoning) and {action} = tool_name(argument=value), values as JSON. "
        "Once you know the answer, write {answer} = instead.",
        "Write a step as\n{thought} = why\n{action} = tool_name(argument=value, …)\nand the reply as\n{answer} = your "
        "words\nAll values are JSON.",
        "Use assignments, one per line: {thought} for your reasoning, {action} for a call such as "
        'tool_name(argument="value"), {answer} for the final reply.',
        "Please answer with {thought} = … followed by {action} = name(key=value), or by {answer} = … if nothing is "
        "left to call. Values are written as in JSON.",
        "Format: {thought} = text, then {action} = the call in the style of Python with JSON values, or {answer} = "
        "text to finish.",
    ),
}
"""The wording of a format is varied with its keys, in the project's own words."""
_REQUESTS_WITHOUT_THOUGHT: dict[ExplicitForm, tuple[str, ...]] = {
    "react": (
        "Reply with the lines {action}: (a tool's name) and {arguments}: (a JSON object). Once you know the answer, "
        "reply with {answer}: instead.",
        "Write each step as\n{action}: the tool\n{arguments}: its input as JSON\nand the last one as\n{answer}: what "
        "you tell the user",
        "Answer in this format. {action}: which tool; {arguments}: its input, in JSON; each on a line of its own. Use "
        "{answer}: for the reply itself.",
        "Please keep to three keys, one per line and followed by a colon: {action}, {arguments} (JSON) and, when "
        "nothing is to be called, {answer}.",
    ),
    "json": (
        'Reply with a JSON object of "{action}" (a tool\'s name) and "{arguments}" (an object). Once you know the '
        'answer, give one of "{answer}" instead.',
        'Respond only in JSON: {{"{action}": …, "{arguments}": {{…}}}} to use a tool, {{"{answer}": …}} to reply.',
        'Each step is one JSON object. Its keys are "{action}" and "{arguments}" while tools are used, and "{answer}" '
        "in place of both at the end.",
        'The program that reads you takes JSON objects: "{action}" names the tool, "{arguments}" holds its input, and '
        '"{answer}" ends the task.',
    ),
    "string": (
        "Reply with a line {action} = tool_name(argument=value), values as JSON. Once you know the answer, write "
        "{answer} = instead.",
        "Write a step as\n{action} = tool_name(argument=value, …)\nand the reply as\n{answer} = your words\nAll values "
        "are JSON.",
        'Use assignments, one per line: {action} for a call such as tool_name(argument="value"), {answer} for the '
        "final reply.",
        "Please answer with {action} = name(key=value), or with {answer} = … if nothing is left to call. Values are "
        "written as in JSON.",
    ),
}
"""For trajectories that hold no thought: a prompt that asks for one would be disobeyed."""


def draw_keys(*names: object) -> Keys:
    """Key names for one pair, drawn from the names given."""
    rng = stable_random("keys", *names)
    words = [rng.choice(choices) for choices in (THOUGHT_NAMES, ACTION_NAMES, ARGUMENT_NAMES, ANSWER_NAMES)]
    style = rng.choice((str, str.lower, str.upper))
    return Keys(*(style(word) for word in words))


def instruction_pair(trajectory: Trajectory, seed: int) -> Sample | str:
    """One step of the trajectory, asked for in a format of its own; a reason where it can't be made.

    The steps before it are the history, in the same format and not learnt again. Where steps have thoughts, one of
    those is taken; where none has, none is asked for.
    """
    assert case_of(trajectory) == "tool"
    rng = stable_random(seed, "instruct", trajectory.id)
    own, messages = split_system(trajectory)
    learnt = [index for index, message in enumerate(messages) if message.loss]
    thinking = [index for index in learnt if thought_of(messages[index])]
    steps = thinking or learnt
    calling = [index for index in steps if messages[index].calls]
    chosen = rng.choice(calling if calling and rng.random() < CALLING_SHARE else steps)
    form = rng.choice(PAIR_FORMS)
    keys = draw_keys(seed, trajectory.id)
    prompt = _prompt(trajectory.tools, (_REQUESTS if thinking else _REQUESTS_WITHOUT_THOUGHT)[form], keys, rng)
    turns = [Turn("system", (Part(f"{own}\n{prompt}" if own else prompt),))]
    asked: list[str] = []
    for index, message in enumerate(messages[: chosen + 1]):
        if message.role in ("user", "tool"):
            content = message.content.strip()
            asked.append(observation(content).rstrip() if message.role == "tool" else content)
        else:
            turns.append(Turn("user", (Part("\n".join(asked)),)))
            parts = FORMATS[form].write(message, keys)
            turns.append(Turn("assistant", parts if index == chosen else unlearnt(parts)))
            asked = []
    if not FORMATS[form].reads_back(messages[chosen], keys, turns[-1].text):
        return "does_not_read_back"
    return Sample(
        id=f"{trajectory.id}/instruct",
        parent=trajectory.id,
        source=trajectory.source,
        form=form,
        case="tool",
        turns=tuple(turns),
    )


def _prompt(tools: tuple[Tool, ...], requests: tuple[str, ...], keys: Keys, rng: random.Random) -> str:
    request = rng.choice(requests).format(
        thought=keys.thought, action=keys.action, arguments=keys.arguments, answer=keys.answer
    )
    return rng.choice(_INTRODUCTIONS).replace("{tools}", tool_list(tools)) + request
